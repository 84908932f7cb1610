import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** A way to Postgres that can be cut, or fall silent. */
export interface Proxy {
  url: string
  /** Breaks every connection and refuses new ones. */
  close(): Promise<void>
  /** Breaks nothing, and lets nothing through any more. */
  freeze(): void
  /** Lets connections through again, on the same port. */
  open(): Promise<void>
}

/** Starts a TCP proxy in front of a database. */
export async function startProxy(t: Test, databaseUrl: string): Promise<Proxy> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let frozen = false
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      if (!frozen) socket.pipe(other)
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
      frozen = true
      for (const socket of sockets) socket.unpipe().pause()
    },
    async open() {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
  }
  t.teardown(() => proxy.close())
  return proxy
}

/** What becomes of a piece on its way: it is passed on, it and everything after it vanishes, or the connection breaks. */
export type Fate = 'pass' | 'silence' | 'break'

/** Decides on each piece of one connection. */
export interface Interceptor {
  /** On its way to Postgres. */
  there?(piece: Buffer): Fate
  /** On its way back. */
  back?(piece: Buffer): Fate
}

/** Starts a TCP proxy in front of a database that tampers with what passes. Answers its address. */
export async function startInterceptor(t: Test, databaseUrl: string, make: () => Interceptor): Promise<string> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname)
    const { there = () => 'pass', back = () => 'pass' } = make()
    let isSilent = false
    const end = () => {
      near.destroy()
      far.destroy()
    }
    for (const [from, to, decide] of [
      [near, far, there],
      [far, near, back],
    ] as const) {
      sockets.add(from)
      // Of a silent connection not even the end is heard.
      from.on('error', () => !isSilent && end())
      from.on('close', () => !isSilent && end())
      from.on('data', (piece) => {
        if (isSilent) return
        const fate = decide(piece)
        if (fate === 'pass') to.write(piece)
        else if (fate === 'break') end()
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

/** Starts a proxy that breaks the first connection on which words have been said, when the answer to its COMMIT comes. */
export async function breakCommit(t: Test, databaseUrl: string, words: string) {
  let broken = false
  const url = await startInterceptor(t, databaseUrl, () => {
    let isSaid = false
    return {
      there(piece) {
        isSaid ||= piece.includes(words)
        return 'pass'
      },
      back(piece) {
        if (broken || !isSaid || !piece.includes('COMMIT\0')) return 'pass'
        broken = true
        return 'break'
      },
    }
  })
  return { url, broken: () => broken }
}
