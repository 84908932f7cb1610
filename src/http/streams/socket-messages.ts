import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import type { WebSocket } from '@fastify/websocket'
import { Limiter } from '../../primitives/limiter.ts'
import { findJsonViolations } from '../protocol/strict-json.ts'
import { closeCodes, closeSocket } from './close-codes.ts'

/** A message with a longer string is invalid, because the string cannot be a job id. */
const maxIdLength = 255
/** A client that sends this many invalid messages is disconnected. It does not speak our protocol. */
const maxInvalidMessages = 16

/**
 * A socket has this much time per second for its messages. A message takes a fixed time, and more for each id. Pings and
 * pongs take the same time.
 */
const messageCostMs = 5
const idCostMs = 0.5
/** A socket that was silent may use this much time at once. */
const maxCreditMs = 2_000

/** A message from a client. The job ids are in lower case, because Postgres returns ids in lower case. */
export interface SubscriptionMessage {
  subscribe: ReadonlySet<string>
  unsubscribe: ReadonlySet<string>
}

/** Parses a message. Returns undefined if it is not a {@link SubscriptionMessage} in JSON. */
export function parseMessage(text: string): SubscriptionMessage | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || findJsonViolations(text).length > 0) return undefined
  const { subscribe, unsubscribe } = value as { subscribe?: string[]; unsubscribe?: string[] }
  const isIdList = (list: unknown) =>
    Array.isArray(list) && list.every((id) => typeof id === 'string' && id.length <= maxIdLength)
  if (subscribe === undefined && unsubscribe === undefined) return undefined
  if (![subscribe, unsubscribe].every((list) => list === undefined || isIdList(list))) return undefined
  const toLowerCase = (ids: string[] = []) => new Set(ids.map((id) => id.toLowerCase()))
  return { subscribe: toLowerCase(subscribe), unsubscribe: toLowerCase(unsubscribe) }
}

export interface MessageHandlers {
  /** Handles a message. The next message is handled after that. */
  handle: (message: SubscriptionMessage) => Promise<void>
  /** Answers an invalid message. */
  refuse: () => void
  onError: (error: unknown) => void
}

/**
 * Handles text messages one after another. While messages wait, nothing is read from the socket, so a client that sends
 * too many messages delays only itself. Each message of any socket gets a turn of the event loop, and each socket has a
 * share of the time, so that other requests are not delayed.
 */
export function handleMessagesInOrder(socket: WebSocket, { handle, refuse, onError }: MessageHandlers): void {
  const pace = new Pace()
  let waiting: (SubscriptionMessage | undefined)[] = []
  let invalidCount = 0
  let isHandling = false

  const handleWaiting = async () => {
    isHandling = true
    socket.pause()
    for (let index = 0; index < waiting.length && socket.readyState === socket.OPEN; index++) {
      const message = waiting[index]
      await pace.turnFor(message)
      if (socket.readyState !== socket.OPEN) break
      if (message) await handle(message)
      else refuse()
    }
    waiting = []
    isHandling = false
    socket.resume()
  }

  // `ws` answers each ping, and does not wait. So the connection ends if there are too many.
  const countControlFrame = () => {
    if (pace.use(messageCostMs) > 0 && socket.readyState === socket.OPEN) {
      closeSocket(socket, closeCodes.policyViolation, 'Too many pings')
    }
  }
  socket.on('ping', countControlFrame)
  socket.on('pong', countControlFrame)
  socket.on('message', (data, isBinary) => {
    if (socket.readyState !== socket.OPEN) return
    if (isBinary) return closeSocket(socket, closeCodes.unsupportedData, 'Only text frames are supported')
    const message = parseMessage(data.toString())
    if (!message) invalidCount += 1
    if (invalidCount >= maxInvalidMessages) {
      return closeSocket(socket, closeCodes.policyViolation, `${maxInvalidMessages} messages were invalid`)
    }
    waiting.push(message)
    if (!isHandling) handleWaiting().catch(onError)
  })
}

/** One turn of the event loop for each message, whichever socket it comes from. */
const turns = new Limiter(1)

/** Shares out the time of a socket. */
class Pace {
  #usedUntil = Number.NEGATIVE_INFINITY

  /** Uses time of the socket. Returns how long to wait before the time may be used, in milliseconds. */
  use(costMs: number): number {
    const now = performance.now()
    this.#usedUntil = Math.max(this.#usedUntil, now - maxCreditMs) + costMs
    return Math.max(0, this.#usedUntil - now)
  }

  /** Waits until the socket may have the time for a message, and for its turn. */
  async turnFor(message: SubscriptionMessage | undefined): Promise<void> {
    const ids = message ? message.subscribe.size + message.unsubscribe.size : 0
    const waitMs = this.use(messageCostMs + ids * idCostMs)
    if (waitMs > 0) await delay(waitMs, undefined, { ref: false })
    await turns.run(() => nextTurn())
  }
}
