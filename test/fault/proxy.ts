import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What a proxy does to the traffic. With an empty object, the proxy forwards everything. */
export interface ProxyFault {
  /** Delays every chunk. */
  delayMs?: number
  /** Breaks the connection at one COMMIT in `oneIn`: before Postgres gets it, or before the client gets the reply. */
  reset?: { oneIn: number; when: 'before' | 'after' }
  /** After the next COMMIT on a connection, drops everything that Postgres sends on that connection. */
  dropCommitReplies?: boolean
  /** Keeps connections open but forwards nothing: on the existing connections only, or on new connections too. */
  silence?: 'existing' | 'all'
  dropNotifications?: boolean
}

/** A TCP proxy to Postgres that causes faults. */
export interface FaultProxy {
  urlOf(url: string): string
  /** Replaces the current fault. A connection that was silenced stays silent. */
  setFault(fault: ProxyFault): void
  /** Sends new connections to another server, and closes the existing connections. */
  redirectTo(port: number): void
  /** Returns the number of chunks, messages and connections that a fault has hit. */
  faultCount(): number
  close(): Promise<void>
}

// Matches the text of a Query or Parse message (PostgreSQL manual, "Message Formats"), even if several messages share
// the chunk.
const containsCommit = (chunk: Buffer): boolean => /[^a-z]commit\0/i.test(chunk.toString('latin1'))

interface Connection {
  client: Socket
  upstream: Socket
  isSilent: boolean
}

/** Starts a proxy to a server on this machine. */
export async function startFaultProxy(upstreamPort: number): Promise<FaultProxy> {
  let fault: ProxyFault = {}
  let currentPort = upstreamPort
  let faults = 0
  let commits = 0
  const connections = new Set<Connection>()

  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ port: currentPort, host: '127.0.0.1', noDelay: true })
    const connection: Connection = { client, upstream, isSilent: fault.silence === 'all' }
    connections.add(connection)
    let resetsOnReply = false
    let dropsReplies = false
    const filterNotifications = createNotificationFilter(() => {
      faults += 1
    })
    const reset = () => {
      faults += 1
      client.resetAndDestroy()
      upstream.destroy()
    }
    const send = async (chunk: Buffer, to: Socket) => {
      if (fault.delayMs) {
        faults += 1
        await delay(fault.delayMs)
      }
      if (!to.destroyed) to.write(chunk)
    }
    // Each chain of promises keeps the chunks in order, even if some of them are delayed.
    let lastToUpstream = Promise.resolve()
    let lastToClient = Promise.resolve()
    client.on('data', (chunk) => {
      if (connection.isSilent) return
      if (fault.dropCommitReplies && containsCommit(chunk)) dropsReplies = true
      if (fault.reset && containsCommit(chunk) && ++commits % fault.reset.oneIn === 0) {
        if (fault.reset.when === 'before') return reset()
        resetsOnReply = true
      }
      lastToUpstream = lastToUpstream.then(() => send(chunk, upstream))
    })
    upstream.on('data', (chunk) => {
      if (connection.isSilent) return
      if (dropsReplies) {
        faults += 1
        return
      }
      // Postgres has committed, but the client gets no reply.
      if (resetsOnReply) return reset()
      const kept = filterNotifications(chunk, fault.dropNotifications === true)
      lastToClient = lastToClient.then(() => send(kept, client))
    })
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.on('error', () => {})
      socket.on('close', () => {
        if (connection.isSilent) return
        connections.delete(connection)
        other.destroy()
      })
    }
  })
  const destroyAll = () => {
    for (const { client, upstream } of connections) {
      client.destroy()
      upstream.destroy()
    }
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    urlOf(url) {
      const proxied = new URL(url)
      proxied.port = String(port)
      return proxied.href
    },
    setFault(next) {
      fault = next
      if (!next.silence) return
      for (const connection of connections) {
        if (!connection.isSilent) faults += 1
        connection.isSilent = true
      }
    },
    redirectTo(next) {
      currentPort = next
      destroyAll()
    },
    faultCount: () => faults,
    async close() {
      const closed = once(server, 'close')
      server.close()
      destroyAll()
      await closed
    },
  }
}

const messageHeaderBytes = 5
const notificationResponse = 'A'.charCodeAt(0)

/** Creates a function that removes notifications from what Postgres sends. A message may span several chunks. */
function createNotificationFilter(onDropped: () => void): (chunk: Buffer, isDropping: boolean) => Buffer {
  let incomplete: Buffer = Buffer.alloc(0)
  return (chunk, isDropping) => {
    let rest = incomplete.length > 0 ? Buffer.concat([incomplete, chunk]) : chunk
    const kept: Buffer[] = []
    // A message begins with one byte for its type. Then comes its length, which counts itself but not the type.
    while (rest.length >= messageHeaderBytes) {
      const length = 1 + rest.readUInt32BE(1)
      if (rest.length < length) break
      const message = rest.subarray(0, length)
      if (isDropping && message[0] === notificationResponse) onDropped()
      else kept.push(message)
      rest = rest.subarray(length)
    }
    incomplete = Buffer.from(rest)
    return Buffer.concat(kept)
  }
}
