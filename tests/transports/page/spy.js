/**
 * Looks over the page's shoulder: every connection that it makes is kept in mind, and how much waited to be sent.
 * Nothing is changed for those who use them.
 */
(() => {
  const made = { peerConnections: [], webSockets: [], dataChannels: [] };
  let mostBuffered = 0;

  const kept = (constructor, list) =>
    new Proxy(constructor, {
      construct(target, words, newTarget) {
        const thing = Reflect.construct(target, words, newTarget);
        list.push(thing);
        thing.addEventListener?.("datachannel", ({ channel }) => made.dataChannels.push(channel));
        return thing;
      },
    });
  const watched = (prototype) => {
    const send = prototype.send;
    prototype.send = function (...words) {
      send.apply(this, words);
      mostBuffered = Math.max(mostBuffered, this.bufferedAmount);
    };
  };
  watched(WebSocket.prototype);
  watched(RTCDataChannel.prototype);
  const create = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (...words) {
    const channel = create.apply(this, words);
    made.dataChannels.push(channel);
    return channel;
  };
  window.RTCPeerConnection = kept(RTCPeerConnection, made.peerConnections);
  window.WebSocket = kept(WebSocket, made.webSockets);

  window.spy = {
    /** How many the page has made, and how many of them are not closed. */
    count: () => ({
      made: Object.fromEntries(Object.entries(made).map(([kind, things]) => [kind, things.length])),
      open: {
        peerConnections: made.peerConnections.filter(({ connectionState }) => connectionState !== "closed").length,
        webSockets: made.webSockets.filter(({ readyState }) => readyState !== WebSocket.CLOSED).length,
        dataChannels: made.dataChannels.filter(({ readyState }) => readyState !== "closed").length,
      },
    }),
    /** The most bytes that ever waited in one socket or channel. */
    mostBuffered: () => mostBuffered,
  };
})();
