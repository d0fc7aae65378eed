// UDPSocket of Direct Sockets, https://wicg.github.io/direct-sockets/ (index.html
// at commit 573458f of github.com/WICG/direct-sockets, 24 October 2024), and
// multicast as docs/multicast-explainer.md of the same repository has it (at
// commit 476d07a), merged into one file and corrected.
//
// Corrected or left out:
//
//  1. [SecureContext], [IsolatedContext] and the permissions policies have no
//     meaning outside of a browser.
//  2. UDPSocketOptions has no defaults where the prose says what is taken when a
//     member is missing. Members that are not given are null, so that a program
//     can see which are.
//  3. UDPMessage.data was optional, though nothing can be sent without it. It is
//     required.
//  4. The members of UDPSocketOpenInfo were optional. readable, writable,
//     localAddress and localPort are always there; the others are null where
//     there is nothing to say.
//  5. multicastController is in the info of bound sockets only, since joining
//     needs a local port (the explainer says so in its prose).
//  6. close() refuses a socket whose streams are locked, or that is not open yet,
//     and there is no other way to get rid of one. With a reason, which the text
//     does not have, it ends the socket in any state, like the Sockets API's
//     close().
//  7. By the text `closed` rejects when the user has aborted the writable, even by
//     close() itself, which aborts it. Here it rejects where the socket has
//     failed, as the text's own summary says.
//
// Additions of this library are in the partial dictionaries at the end.

[Exposed=*]
interface UDPSocket {
  constructor(optional UDPSocketOptions options = {});

  readonly attribute Promise<UDPSocketOpenInfo> opened;
  readonly attribute Promise<undefined> closed;

  Promise<undefined> close(optional any reason);
};

enum SocketDnsQueryType { "ipv4", "ipv6" };

dictionary UDPSocketOptions {
  DOMString? remoteAddress = null;
  [EnforceRange] unsigned short? remotePort = null;

  DOMString? localAddress = null;
  [EnforceRange] unsigned short? localPort = null;

  [EnforceRange] unsigned long? sendBufferSize = null;
  [EnforceRange] unsigned long? receiveBufferSize = null;

  SocketDnsQueryType? dnsQueryType = null;
  boolean? ipv6Only = null;

  boolean? multicastAllowAddressSharing = null;
  [EnforceRange] octet? multicastTimeToLive = null;
  boolean? multicastLoopback = null;
};

dictionary UDPMessage {
  required BufferSource data;
  DOMString? remoteAddress = null;
  unsigned short? remotePort = null;
  SocketDnsQueryType? dnsQueryType = null;
};

dictionary UDPSocketOpenInfo {
  required ReadableStream readable;
  required WritableStream writable;

  required DOMString? remoteAddress;
  required unsigned short? remotePort;

  required DOMString localAddress;
  required unsigned short localPort;

  required MulticastController? multicastController;
};

[Exposed=*]
interface MulticastController {
  Promise<undefined> joinGroup(DOMString ipAddress);
  Promise<undefined> leaveGroup(DOMString ipAddress);

  readonly attribute FrozenArray<DOMString> joinedGroups;
};

// -- this library's own

partial dictionary UDPSocketOptions {
  // Bytes that writer.desiredSize starts from, 8 for each header included.
  unsigned long long highWaterMark = 65536;
  AbortSignal? signal = null;
  object? policy = null;                // (host, address, port) -> bool or an exception
  object? resolver = null;              // async (host, port) -> [(family, ip)]
};

partial dictionary UDPMessage {
  // Received, and longer than what is kept of it. UDP cannot be: see datagram.py.
  boolean truncated = false;
};
