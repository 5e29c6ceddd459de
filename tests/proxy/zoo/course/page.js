/** The course in a page that came from the origin, through the animal. */

import { Client } from "/static/hybrid/index.js";

import { Course } from "./course.js";

window.course = new Course(Client);
