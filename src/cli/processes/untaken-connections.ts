import type { Worker } from 'node:cluster'

interface Connection {
  close(): void
}

/**
 * Closes the connections that were given to a process which ended before it took them. Node.js would keep them open
 * forever, and their clients would wait for an answer. There is no public way to find them: this follows the messages of
 * lib/internal/cluster/round_robin_handle.js. If a later version of Node.js sends others, nothing else changes.
 */
export function closeUntaken(worker: Worker): void {
  const untaken = new Map<number, Connection>()
  const child = worker.process as unknown as {
    send(message: { act?: string; seq?: number }, connection?: Connection, ...rest: unknown[]): unknown
    on(event: 'internalMessage', listener: (message: { ack?: number }) => void): void
  }
  const { send } = child
  child.send = (message, connection, ...rest) => {
    const { act, seq } = message
    if (act === 'newconn' && seq !== undefined && connection) untaken.set(seq, connection)
    return Reflect.apply(send, child, [message, connection, ...rest])
  }
  child.on('internalMessage', ({ ack }) => {
    if (ack !== undefined) untaken.delete(ack)
  })
  worker.once('exit', () => {
    for (const connection of untaken.values()) connection.close()
  })
}
