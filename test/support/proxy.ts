import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** A TCP proxy in front of Postgres that a test can close or freeze. */
export interface Proxy {
  url: string
  /** Closes every connection and refuses new ones. */
  close(): Promise<void>
  /** Stops forwarding, but keeps all connections open. New connections are accepted, and nothing is forwarded. */
  freeze(): void
  /** Accepts connections again, on the same port. */
  open(): Promise<void>
  /** Leads new connections to another server, and leaves the others as they are. */
  switchTo(databaseUrl: string): void
}

/** Starts a TCP proxy in front of a database. */
export async function startProxy(t: Test, databaseUrl: string): Promise<Proxy> {
  let target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let isFrozen = false
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      if (!isFrozen) socket.pipe(other)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const url = new URL(databaseUrl)
  url.port = String(port)
  const proxy: Proxy = {
    url: url.href,
    async close() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
    freeze() {
      isFrozen = true
      for (const socket of sockets) socket.unpipe().pause()
    },
    async open() {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    switchTo(databaseUrl) {
      target = new URL(databaseUrl)
    },
  }
  t.teardown(() => proxy.close())
  return proxy
}

/**
 * What a proxy does with a chunk: `pass` forwards the chunk, `silence` drops it and all later data of the connection,
 * and `break` closes the connection.
 */
export type ProxyAction = 'pass' | 'silence' | 'break'

/** Decides what to do with each chunk of one connection. Default: `pass`. */
export interface Interceptor {
  toServer?(chunk: Buffer): ProxyAction
  toClient?(chunk: Buffer): ProxyAction
}

/**
 * Starts a TCP proxy in front of a database. Returns its URL.
 *
 * @param createInterceptor is called for each connection
 */
export async function startInterceptor(
  t: Test,
  databaseUrl: string,
  createInterceptor: () => Interceptor,
): Promise<string> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname)
    const { toServer = () => 'pass', toClient = () => 'pass' } = createInterceptor()
    let isSilent = false
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    for (const [from, to, decide] of [
      [client, upstream, toServer],
      [upstream, client, toClient],
    ] as const) {
      sockets.add(from)
      // A silent connection forwards neither errors nor the end of the connection.
      from.on('error', () => !isSilent && end())
      from.on('close', () => !isSilent && end())
      from.on('data', (chunk) => {
        if (isSilent) return
        const action = decide(chunk)
        if (action === 'pass') to.write(chunk)
        else if (action === 'break') end()
        else isSilent = true
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const url = new URL(databaseUrl)
  url.port = String((server.address() as { port: number }).port)
  return url.href
}

/**
 * Starts a proxy that loses one reply to a COMMIT. Postgres commits, but the connection breaks before the reply.
 *
 * @param statement part of a statement; the proxy breaks the first connection that has sent that statement
 */
export async function startCommitBreaker(t: Test, databaseUrl: string, statement: string) {
  let hasBroken = false
  const url = await startInterceptor(t, databaseUrl, () => {
    let isTarget = false
    return {
      toServer(chunk) {
        isTarget ||= chunk.includes(statement)
        return 'pass'
      },
      toClient(chunk) {
        if (hasBroken || !isTarget || !chunk.includes('COMMIT\0')) return 'pass'
        hasBroken = true
        return 'break'
      },
    }
  })
  return { url, hasBroken: () => hasBroken }
}
