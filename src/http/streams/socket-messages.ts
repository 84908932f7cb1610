import type { WebSocket } from '@fastify/websocket'
import { closeCodes } from './close-codes.ts'

/** A message with a longer string is invalid, because the string cannot be a job id. */
const maxIdLength = 255

/** A message from a client. The job ids are in lower case, because Postgres returns ids in lower case. */
export interface SubscriptionMessage {
  subscribe: string[]
  unsubscribe: string[]
}

/** Parses a message. Returns undefined if it is not a {@link SubscriptionMessage} in JSON. */
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
 * Handles text messages one after another. While a message is handled, nothing is read from the socket. If a client
 * sends too many messages, it therefore delays only itself. Other requests still get database connections.
 */
export function handleMessagesInOrder(
  socket: WebSocket,
  handle: (text: string) => Promise<void>,
  onError: (error: unknown) => void,
): void {
  let lastHandled = Promise.resolve()
  let unhandledCount = 0
  socket.on('message', (data, isBinary) => {
    if (isBinary) return socket.close(closeCodes.unsupportedData, 'Only text frames are supported')
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
