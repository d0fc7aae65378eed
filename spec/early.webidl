// The early draft that came before the Sockets API: "an initial draft intended to
// spark a conversation", never published as a specification. Its members are on the
// same classes as those of sockets.webidl, so this file is mostly partial.
//
// Corrected, because the draft is not valid Web IDL, leaves out what its own
// examples use, or defines again what the Sockets API has:
//
//  1. `bool` is boolean, `string` USVString, `readonly attributes` attribute, T[] and
//     sequence[T] sequence<T>, `async iterable` async_iterable. The `include`
//     statements name dictionaries, which only inherit, so what they include stands
//     where it is included. Python's one str is DOMString.
//  2. Interfaces SocketInfo and SocketStats had no constructor and no behaviour:
//     dictionaries. SocketInfo is that of the Sockets API with more members.
//  3. SocketAddress is the Sockets API's, whose `hostname` the draft calls `address`.
//     In SocketInit either name is taken.
//  4. `Type` was a union of an enum and a string, which is a string. "udp" is not a
//     type of Socket here but the class UDPSocket, as a stream of messages is no
//     stream of bytes; "quic" is not there yet.
//  5. Members of SocketInfo are null without TLS, those of SocketStats where nobody
//     counts, and `type`, `remote` and `local` without a connection: nullable.
//  6. noDelay was false by default. Everything that this library connects sends small
//     segments at once, so the default (null here) is true.
//  7. readyTimeout and idleTimeout were 0 by default, which is not said to be "none".
//     Idling has no limit then; opening has those of connectTimeout and
//     handshakeTimeout.
//  8. stream() is in all examples of a client and not in the interface. Added.
//  9. The examples write `new SocketListener({ local: '…', port })` with local a
//     string: a mistake for { local: { address, port } }. A string is read as
//     listen() reads it.
// 10. SocketListener had nothing but a signal to close it, and no way to learn its
//     port: `close`, `closed` and `local` are added. It yields OnSocketEvents,
//     defined as SocketEvent.
// 11. Events had no constructor to carry what they have: the dictionaries
//     SocketDataEventInit and SocketEventInit are added.
// 12. TLSSocketInit's `session` was an example of an extension to be defined. It is a
//     SessionCache. Members of TlsOptions are taken as they are everywhere.
// 13. `key` was a CryptoKey, `cert` and `ca` buffers or PEM: TlsMaterial.
// 14. Beside noDelay, buffers and ttl the keep-alive options and linger are there,
//     by the names of Node and Direct Sockets (keepAliveDelay in seconds, though).

partial interface Socket {
  constructor(optional SocketInit init = {});

  readonly attribute Promise<undefined> ready;
  readonly attribute AbortSignal signal;
  readonly attribute SocketStats stats;
  readonly attribute SocketInfo info;

  Promise<undefined> update(optional SocketInit init = {});
  Promise<undefined> abort(optional any reason);
  ReadableStreamAsyncIterator stream();

  // Those of EventTarget, which Socket inherits from.
  undefined addEventListener(DOMString type, EventListener? callback, optional AddEventListenerOptions options = {});
  undefined removeEventListener(DOMString type, EventListener? callback);
  boolean dispatchEvent(Event event);
};

partial dictionary SocketAddress {
  DOMString address;                                   // the same as hostname
};

// What the operating system has by name; null: not given, or there is no such
// option.
dictionary SystemOptions {
  boolean? noDelay = null;
  boolean? keepAlive = null;
  unsigned short? keepAliveDelay = null;               // seconds, as is the interval
  unsigned short? keepAliveInterval = null;
  unsigned short? keepAliveCount = null;
  (unsigned short or DOMString)? linger = null;        // seconds, or "off"
  unsigned short? ttl = null;
  unsigned long? sendBufferSize = null;
  unsigned long? receiveBufferSize = null;
};

// str, bytes-like, ReadableStream, file, iterable, async iterable, awaitable, or a
// function that gives one of these.
typedef object SocketBody;

// With the members of SystemOptions, since a dictionary inherits from one other only.
dictionary SocketInit : TlsOptions {
  DOMString? type = null;                              // "tcp"
  SocketAddress? remote = null;
  SocketAddress? local = null;
  SocketBody? body = null;
  AbortSignal? signal = null;
  boolean allowPooling = true;
  unsigned long? readyTimeout = null;                  // milliseconds
  unsigned long? idleTimeout = null;                   // milliseconds
  boolean? noDelay = null;
  boolean? keepAlive = null;
  unsigned short? keepAliveDelay = null;
  unsigned short? keepAliveInterval = null;
  unsigned short? keepAliveCount = null;
  (unsigned short or DOMString)? linger = null;
  unsigned short? ttl = null;
  unsigned long? sendBufferSize = null;
  unsigned long? receiveBufferSize = null;
  DOMString? servername = null;
  SessionCache? session = null;
};

dictionary SocketStats {
  unsigned long long? bytesSent = null;
  unsigned long long? bytesReceived = null;
  unsigned long long? packetsSent = null;
  unsigned long long? packetsReceived = null;
};

partial dictionary SocketInfo {
  DOMString? type = null;
  SocketAddress? remote = null;
  SocketAddress? local = null;
  DOMString? servername = null;
  BufferSource? certificate = null;
  BufferSource? peerCertificate = null;
  DOMString? verificationStatus = null;
  CipherInfo? cipher = null;
  EphemeralKeyInfo? ephemeralKey = null;
  BufferSource? session = null;
  BufferSource? ticket = null;
  sequence<DOMString>? signatureAlgorithms = null;
};

dictionary CipherInfo {
  required DOMString name;
  required DOMString? standardName;
  required DOMString version;
};

dictionary EphemeralKeyInfo {
  required DOMString type;
  required DOMString name;
  required unsigned short? size;
};

[Exposed=*]
interface SocketDataEvent : Event {
  constructor(DOMString type, optional SocketDataEventInit eventInitDict = {});

  readonly attribute FrozenArray<BufferSource> buffers;
};

dictionary SocketDataEventInit : EventInit {
  sequence<BufferSource> buffers = [];
};

// -- listening

[Exposed=*]
interface SocketListener : EventTarget {
  constructor(optional SocketListenerInit init = {});

  readonly attribute SocketAddress? local;
  readonly attribute Promise<undefined> closed;
  Promise<undefined> close(optional any reason);

  async_iterable<SocketEvent>;
};

// Beside these it takes what listen() does, secureTransport and alpn apart.
dictionary SocketListenerInit {
  DOMString type = "tcp";
  (DOMString or SocketAddress)? local = null;
  AbortSignal? signal = null;
};

[Exposed=*]
interface SocketEvent : Event {
  constructor(DOMString type, optional SocketEventInit eventInitDict = {});

  readonly attribute Socket socket;
};

dictionary SocketEventInit : EventInit {
  Socket socket;                                       // TypeError without it
};
