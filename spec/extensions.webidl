// This library's own additions, in the same language as the specifications they
// add to. Names here follow the rules for standard names: every multi-word
// member also exists in snake_case.
//
// Where Web IDL has no word for a Python value its type is `object`, with the
// values in a comment beside it; classes that are no interfaces (SessionCache)
// stand for themselves. Functions and methods that are ours alone are plain
// Python and not listed: adopt() is here because a binding object has it.

// -- more options of connect()

partial dictionary SocketOptions {
  // Bytes that writer.desiredSize starts from; workerd has the member too.
  unsigned long long highWaterMark = 65536;
  AbortSignal? signal = null;
  // Seconds; Infinity is no limit.
  unrestricted double connectTimeout = 30;
  unrestricted double handshakeTimeout = 30;
  unrestricted double closeTimeout = 5;
  // The handshake fails where the peer chooses none of `alpn`.
  boolean alpnRequired = false;
  // A FIN without close_notify counts as the end of the stream.
  boolean tolerateTruncation = false;
};

// -- TLS

// A certificate or key: str or bytes is PEM (bytes may be DER), an os.PathLike
// names a file, and cryptography's own objects are taken as they are.
typedef object TlsMaterial;

enum TlsVerification { "full", "ca", "none" };
enum TlsVersion { "1.0", "1.1", "1.2", "1.3" };

dictionary TlsOptions {
  (TlsMaterial or sequence<TlsMaterial>)? ca = null;   // null: the system's trust store
  TlsMaterial? cert = null;                            // the leaf, then its chain
  TlsMaterial? key = null;
  object? password = null;                             // str, bytes or a callable
  object? psk = null;                                  // (identity, key) as bytes
  TlsVerification verify = "full";
  TlsVersion minVersion = "1.2";
  TlsVersion? maxVersion = null;
  DOMString? ciphers = null;                           // OpenSSL's string
  SessionCache? sessions = null;
  object? keylog = null;                               // a path; written only if given
};

// -- startTls()

// Beside the members of TlsOptions, which are laid over the binding object's.
dictionary StartTlsOptions : TlsOptions {
  DOMString? sni = null;                               // null: the socket's
  sequence<DOMString>? alpn = null;                    // null: the socket's
  DOMString? expectedServerHostname = null;            // workerd has it too
};

// -- binding objects

enum Role { "client", "server" };

// A dictionary inherits from one other only; those of SocketOptions are taken
// beside these.
dictionary AdoptOptions : TlsOptions {
  DOMString? hostname = null;                          // the name that TLS verifies
  Role role = "client";                                // the side it takes
};

dictionary BindingOptions {
  TlsOptions tls = {};
  object? policy = null;                // (host, address, port) -> bool or an exception
  DOMString? proxy = null;              // "http://…" or "socks5://…"
  boolean proxyResolve = false;
  object? resolver = null;              // async (host, port) -> [(family, ip)]
};

[Exposed=*]
interface Binding {
  constructor(optional BindingOptions options = {});

  readonly attribute TlsOptions tls;
  readonly attribute object? policy;
  readonly attribute object? proxy;
  readonly attribute boolean proxyResolve;
  readonly attribute object? resolver;

  Socket connect(AnySocketAddress address, optional SocketOptions opts = {});
  Socket adopt(object fd, optional AdoptOptions opts = {});
  ServerSocket listen(AnySocketAddress address, optional ListenOptions opts = {});
};

// -- listening

enum ClientAuth { "required", "optional" };

// What reload() changes: TLS, for connections that are still to come. `ca`, `verify`
// and `sessions` are a client's.
dictionary ReloadOptions : TlsOptions {
  (TlsMaterial or sequence<TlsMaterial>)? clientCa = null;
  ClientAuth clientAuth = "required";
  object? sniContexts = null;           // by name or "*.name": TlsOptions
};

// Those of SocketOptions are taken beside these, `sni` and `connectTimeout` apart.
dictionary ListenOptions : ReloadOptions {
  unsigned long backlog = 4096;
  boolean reusePort = false;
  boolean ipv6Only = false;
  unsigned long maxHandshakes = 1024;
  boolean proxyProtocol = false;
  sequence<DOMString>? trustedProxies = null;          // networks, and "unix:"
};

[Exposed=*]
interface ServerSocket {
  readonly attribute ReadableStream readable;          // of Sockets
  readonly attribute Promise<SocketInfo> opened;
  readonly attribute Promise<undefined> closed;
  readonly attribute DOMString localAddress;
  readonly attribute SecureTransportKind secureTransport;

  Promise<undefined> close(optional any reason);
  undefined reload(optional ReloadOptions opts = {});
};
