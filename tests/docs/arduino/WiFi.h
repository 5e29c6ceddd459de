// A computer has its network already.
#pragma once
