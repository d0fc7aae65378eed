# What the worker runs with: the loopback may be reached, and the suite's
# certificates are trusted. The runner puts `authority.pem` beside a copy of this.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "internet", network = (
      allow = ["public", "private", "local"],
      tlsOptions = (trustedCertificates = [embed "authority.pem"]),
    )),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  modules = [
    (name = "worker.mjs", esModule = embed "worker.mjs"),
    (name = "interpreter.mjs", esModule = embed "interpreter.mjs"),
  ],
  compatibilityDate = "2025-06-11",
);
