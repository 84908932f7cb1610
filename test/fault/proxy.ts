import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What happens to what passes. */
export interface Mischief {
  /** Each piece is late by so much, in milliseconds. */
  late?: number
  /** Of so many commits one loses its connection: before it reaches Postgres, or after, before the answer. */
  reset?: { oneIn: number; when: 'before' | 'after' }
  /** Once a COMMIT has passed, nothing comes back on its connection any more. */
  withoutCommitAnswers?: boolean
  /** Nothing passes any more, and nobody is told: for the connections there are, or for new ones too. */
  silent?: 'existing' | 'all'
  /** Notifications are left out. */
  withoutNotifications?: boolean
}

/** A way to Postgres on which things go wrong. */
export interface FaultProxy {
  urlOf(url: string): string
  /** From now on; nothing: everything passes. Connections that have fallen silent stay so. */
  set(mischief: Mischief): void
  /** Leads to another server from now on; the connections to the old one break. */
  leadTo(port: number): void
  /** How often it did something bad. */
  faults(): number
  close(): Promise<void>
}

// The text of a Query, or of a Parse among others (PostgreSQL manual, "Message Formats").
const isCommit = (piece: Buffer): boolean => /[^a-z]commit\0/i.test(piece.toString('latin1'))

/** Starts a proxy in front of a server on this machine. */
export async function startFaultProxy(targetPort: number): Promise<FaultProxy> {
  let mischief: Mischief = {}
  let target = targetPort
  let faults = 0
  let commits = 0
  const pairs = new Set<{ near: Socket; far: Socket; silent: boolean }>()

  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ port: target, host: '127.0.0.1', noDelay: true })
    const pair = { near, far, silent: mischief.silent === 'all' }
    pairs.add(pair)
    let resetOnAnswer = false
    let isUnanswered = false
    const withoutNotifications = notificationFilter(() => {
      faults += 1
    })
    const reset = () => {
      faults += 1
      near.resetAndDestroy()
      far.destroy()
    }
    const send = async (piece: Buffer, to: Socket) => {
      if (mischief.late) {
        faults += 1
        await delay(mischief.late)
      }
      if (!to.destroyed) to.write(piece)
    }
    // One after the other, or what is late would be overtaken.
    let forth = Promise.resolve()
    let back = Promise.resolve()
    near.on('data', (piece) => {
      if (pair.silent) return
      const { reset: resetting } = mischief
      if (mischief.withoutCommitAnswers && isCommit(piece)) isUnanswered = true
      if (resetting && isCommit(piece) && ++commits % resetting.oneIn === 0) {
        if (resetting.when === 'before') return reset()
        resetOnAnswer = true
      }
      forth = forth.then(() => send(piece, far))
    })
    far.on('data', (piece) => {
      if (pair.silent) return
      if (isUnanswered) {
        faults += 1
        return
      }
      // It has been committed, and nobody will know.
      if (resetOnAnswer) return reset()
      const kept = withoutNotifications(piece, mischief.withoutNotifications === true)
      back = back.then(() => send(kept, near))
    })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on('error', () => {})
      socket.on('close', () => {
        if (pair.silent) return
        pairs.delete(pair)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    urlOf(url) {
      const through = new URL(url)
      through.port = String(port)
      return through.href
    },
    set(next) {
      mischief = next
      if (!next.silent) return
      for (const pair of pairs) {
        if (!pair.silent) faults += 1
        pair.silent = true
      }
    },
    leadTo(next) {
      target = next
      for (const { near, far } of pairs) {
        near.destroy()
        far.destroy()
      }
    },
    faults: () => faults,
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const { near, far } of pairs) {
        near.destroy()
        far.destroy()
      }
      await closed
    },
  }
}

/** Answers a function that leaves the notifications out of what Postgres sends; messages may span pieces. */
function notificationFilter(onDropped: () => void): (piece: Buffer, isDropping: boolean) => Buffer {
  let half: Buffer = Buffer.alloc(0)
  return (piece, isDropping) => {
    let rest = half.length > 0 ? Buffer.concat([half, piece]) : piece
    const kept: Buffer[] = []
    // A type of one byte, and a length that counts itself.
    while (rest.length >= 5) {
      const length = 1 + rest.readUInt32BE(1)
      if (rest.length < length) break
      const message = rest.subarray(0, length)
      if (isDropping && message[0] === 0x41) onDropped()
      else kept.push(message)
      rest = rest.subarray(length)
    }
    half = Buffer.from(rest)
    return Buffer.concat(kept)
  }
}
