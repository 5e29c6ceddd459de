"""Three thin ways to carry one session, and the plain channels."""
