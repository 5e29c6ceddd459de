/** The public names. Importing this has no side effect: nothing is opened, listened to or stored before `connect()`. */

export { Client } from "./client.js";
export { HybridError } from "./codes.js";
