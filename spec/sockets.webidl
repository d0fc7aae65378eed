// The interfaces of the Sockets API, https://sockets-api.proposal.wintertc.org/
// (index.bs at commit 3ab96d5 of github.com/WinterTC55/proposal-sockets-api,
// 11 June 2025), merged into one file and corrected.
//
// Corrected, because the published fragments are not valid Web IDL or say
// something that the prose contradicts:
//
//  1. [Exposed] stood on SocketInfo, SocketAddress and SocketOptions. The
//     attribute does not apply to dictionaries; it is dropped there.
//  2. SocketInfo's three members and SocketOptions.sni had the type DOMString
//     and the default null, which DOMString does not contain. They are
//     DOMString?.
//  3. SocketOptions.alpn was DOMString[], which Web IDL no longer has; it is
//     sequence<DOMString>.
//  4. SocketAddress.hostname and .port were optional without a default. There
//     is nothing to connect to without them; they are required.
//  5. connect()'s optional dictionary had no default value. An optional last
//     argument of a dictionary type must default to {}.
//  6. startTls() took no argument, so the name to verify and the certificates
//     could not be given where TLS begins. Cloudflare's workerd takes an
//     options argument there; so does this file. StartTlsOptions is defined in
//     extensions.webidl.
//  7. The prose speaks of the secureTransport option "defined on the Socket
//     instance", but the interface had no way to see it. The attribute is
//     added, as workerd has it.
//  8. readable and writable are one object each for the whole life of a socket.
//     [SameObject] says so. (opened and closed are too, but Web IDL does not
//     allow the attribute on promises.)
//
// Connect is an interface in the text only because a draft had to put the
// operation somewhere: in Python it is the function wsockets.connect and the
// method of the same name on a binding object.

dictionary SocketInfo {
  DOMString? remoteAddress = null;
  DOMString? localAddress = null;
  DOMString? alpn = null;
};

[Exposed=*]
interface Socket {
  [SameObject] readonly attribute ReadableStream readable;
  [SameObject] readonly attribute WritableStream writable;

  readonly attribute Promise<SocketInfo> opened;

  readonly attribute Promise<undefined> closed;
  Promise<undefined> close(optional any reason);

  readonly attribute boolean upgraded;
  readonly attribute SecureTransportKind secureTransport;

  [NewObject] Socket startTls(optional StartTlsOptions options = {});
};

dictionary SocketAddress {
  required DOMString hostname;
  required unsigned short port;
};

typedef (DOMString or SocketAddress) AnySocketAddress;

enum SecureTransportKind { "off", "on", "starttls" };

dictionary SocketOptions {
  SecureTransportKind secureTransport = "off";
  boolean allowHalfOpen = false;
  DOMString? sni = null;
  sequence<DOMString> alpn = [];
};

[Exposed=*]
interface Connect {
  Socket connect(AnySocketAddress address, optional SocketOptions opts = {});
};
