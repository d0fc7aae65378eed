// workerd's own cloudflare:sockets: a request a POST, an answer its response.
import { connect } from "cloudflare:sockets";
import { countStray, interpreter } from "interpreter.mjs";

addEventListener("unhandledrejection", countStray);
const interpret = interpreter({ connect });

export default {
  async fetch(request) {
    return Response.json(await interpret(await request.json()));
  },
};
