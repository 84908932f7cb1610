import type { WebSocket } from '@fastify/websocket'
import { SlowConsumerGuard } from './slow-consumer.ts'

/** Above this number of unsent bytes, events wait in the outbox, so that newer events can replace them. */
const maxBufferedBytes = 64 * 1024

export interface OutboxOptions {
  /** Called when a slow client has read something. */
  onRead: () => void
  /** Receives an error that occurs while an event is encoded. All pending events are then dropped. */
  onError: (error: unknown) => void
}

/** Sends events to a WebSocket as fast as the client reads. For each subject, only the newest event is pending. */
export class SocketOutbox {
  readonly #socket: WebSocket
  readonly #onRead: () => void
  readonly #onError: (error: unknown) => void
  readonly #guard = new SlowConsumerGuard()
  /** The pending events, by subject. Each value is a function that encodes the event. */
  readonly #pending = new Map<string, () => string>()
  #isBlocked = false

  constructor(socket: WebSocket, { onRead, onError }: OutboxOptions) {
    this.#socket = socket
    this.#onRead = onRead
    this.#onError = onError
  }

  /** Queues an event. It replaces a pending event with the same subject. Disconnects the client if it is too slow. */
  put(subject: string, encode: () => string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return
    this.#pending.set(subject, encode)
    if (this.#guard.isTooSlow(this.#pending.size)) this.#socket.terminate()
    else this.#flush()
  }

  drop(subject: string): void {
    this.#pending.delete(subject)
  }

  clear(): void {
    this.#pending.clear()
  }

  #flush(): void {
    try {
      this.#sendPending()
    } catch (error) {
      this.clear()
      this.#onError(error)
    }
  }

  #sendPending(): void {
    this.#isBlocked = false
    if (this.#socket.bufferedAmount <= maxBufferedBytes) this.#guard.recordDrained()
    for (const [subject, encode] of this.#pending) {
      this.#isBlocked = this.#socket.bufferedAmount > maxBufferedBytes
      if (this.#isBlocked) return
      this.#pending.delete(subject)
      this.#socket.send(encode(), (error) => {
        if (error) return
        if (this.#isBlocked) this.#onRead()
        this.#flush()
      })
    }
  }
}
