import type { WebSocket } from '@fastify/websocket'

/** Longer strings are no job ids, and are not echoed in an error. */
const maxIdLength = 255

/** Close code 1003 (RFC 6455, section 7.4.1). */
const unsupportedData = 1003

/** A message of a client. The job ids are converted to lower case, as Postgres writes them. */
export interface SubscriptionMessage {
  subscribe: string[]
  unsubscribe: string[]
}

/** Reads a message; undefined if it is not a {@link SubscriptionMessage} in JSON. */
export function parseMessage(text: string): SubscriptionMessage | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { subscribe, unsubscribe } = value as Partial<SubscriptionMessage>
  const isIdList = (list: unknown) =>
    Array.isArray(list) && list.every((id) => typeof id === 'string' && id.length <= maxIdLength)
  if (subscribe === undefined && unsubscribe === undefined) return undefined
  if (![subscribe, unsubscribe].every((list) => list === undefined || isIdList(list))) return undefined
  const toLowerCase = (ids: string[] = []) => ids.map((id) => id.toLowerCase())
  return { subscribe: toLowerCase(subscribe), unsubscribe: toLowerCase(unsubscribe) }
}

/**
 * Handles text messages one after another, and reads nothing from the socket meanwhile. So a client that sends fast
 * slows down only itself, not other requests that need the database.
 */
export function handleMessagesInOrder(
  socket: WebSocket,
  handle: (text: string) => Promise<void>,
  onError: (error: unknown) => void,
): void {
  let lastHandled = Promise.resolve()
  let unhandledCount = 0
  socket.on('message', (data, isBinary) => {
    if (isBinary) return socket.close(unsupportedData, 'Text frames only')
    socket.pause()
    unhandledCount += 1
    lastHandled = lastHandled
      .then(() => handle(data.toString()))
      .catch(onError)
      .finally(() => {
        unhandledCount -= 1
        if (unhandledCount === 0) socket.resume()
      })
  })
}
