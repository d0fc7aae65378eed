// Aborting and events as far as sockets and streams need them: the parts of the
// DOM Standard that are delivered, https://dom.spec.whatwg.org/ (living
// standard). Everything that is here is the Standard's; what is not here is not
// offered:
//
//  - Events have no tree to travel through: no capture and bubble phases, no
//    path, no currentTarget, no composed events. AddEventListenerOptions has
//    therefore neither capture nor passive, and an Event no bubbles.
//  - timeStamp, isTrusted, CustomEvent and the legacy members of Event.
//
// onabort is the one attribute of the library that can be set.

[Exposed=*]
interface Event {
  constructor(DOMString type, optional EventInit eventInitDict = {});

  readonly attribute DOMString type;
  readonly attribute EventTarget? target;
  readonly attribute boolean cancelable;
  readonly attribute boolean defaultPrevented;

  undefined preventDefault();
  undefined stopImmediatePropagation();
};

dictionary EventInit {
  boolean cancelable = false;
};

[Exposed=*]
interface EventTarget {
  constructor();

  undefined addEventListener(DOMString type, EventListener? callback, optional AddEventListenerOptions options = {});
  undefined removeEventListener(DOMString type, EventListener? callback);
  boolean dispatchEvent(Event event);
};

callback interface EventListener {
  undefined handleEvent(Event event);
};

dictionary AddEventListenerOptions {
  boolean once = false;
  AbortSignal signal;
};

[Exposed=*]
interface AbortController {
  constructor();

  [SameObject] readonly attribute AbortSignal signal;

  undefined abort(optional any reason);
};

[Exposed=*]
interface AbortSignal : EventTarget {
  [NewObject] static AbortSignal abort(optional any reason);
  [NewObject] static AbortSignal timeout([EnforceRange] unsigned long long milliseconds);
  [NewObject] static AbortSignal _any(sequence<AbortSignal> signals);

  readonly attribute boolean aborted;
  readonly attribute any reason;
  undefined throwIfAborted();

  attribute EventHandler onabort;
};

[LegacyTreatNonObjectAsNull]
callback EventHandlerNonNull = any (Event event);
typedef EventHandlerNonNull? EventHandler;
