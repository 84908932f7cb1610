import { EventEmitter } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { webSocketPathOf } from '../protocol/limits.ts'

/** The paths of our WebSockets, by server. */
const pathsOf = new WeakMap<Server, Map<string, EventEmitter>>()

/**
 * Returns an emitter of the server's upgrade requests for one path, for @fastify/websocket. With the server itself,
 * that plugin would answer upgrade requests for every route, also of the host app, and leave their connections open.
 */
export function upgradesOf(server: Server, path: string): EventEmitter {
  const emitter = new EventEmitter()
  const paths = pathsOf.get(server) ?? listenForUpgrades(server)
  paths.set(path, emitter)
  return emitter
}

function listenForUpgrades(server: Server): Map<string, EventEmitter> {
  const paths = new Map<string, EventEmitter>()
  pathsOf.set(server, paths)
  const find = (request: IncomingMessage) => paths.get(webSocketPathOf(request) ?? '')
  const hasOtherListeners = () => server.listenerCount('upgrade') > 1

  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const emitter = find(request)
    if (emitter) emitter.emit('upgrade', request, socket, head)
    else if (!hasOtherListeners()) socket.destroy()
  })
  // Node answers a request for another path over HTTP, as if it did not ask for an upgrade (RFC 9110, section 7.8).
  const options = server as Server & { shouldUpgradeCallback?: (request: IncomingMessage) => boolean }
  const isWanted = options.shouldUpgradeCallback
  if (isWanted) {
    options.shouldUpgradeCallback = (request) =>
      find(request) !== undefined || (hasOtherListeners() && isWanted.call(server, request))
  }
  return paths
}
