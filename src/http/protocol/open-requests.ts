import type { FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'

/** The default limit: a third of the event streams that a process has at most. */
export const defaultOpenLimit = 5_000

/** An estimate: the time at which an open request ends is unknown. */
const retryAfterSeconds = 5

/**
 * Counts the requests of each principal that stay open: event streams, WebSockets and waits. Each takes memory and
 * watches jobs, so their number is limited.
 */
export class OpenRequests {
  readonly #limit: number
  readonly #ofPrincipals = new Map<string, number>()

  /** @param limit the maximum number for each principal; false for any number */
  constructor(limit: number | false = defaultOpenLimit) {
    this.#limit = limit === false ? Number.POSITIVE_INFINITY : limit
  }

  hasRoom(principal: string): boolean {
    return (this.#ofPrincipals.get(principal) ?? 0) < this.#limit
  }

  /**
   * Counts a request until the returned function is called.
   *
   * @throws ProblemError too-many-requests
   */
  open(principal: string): () => void {
    const count = (this.#ofPrincipals.get(principal) ?? 0) + 1
    if (count > this.#limit) throw this.#refusal()
    this.#ofPrincipals.set(principal, count)
    return () => {
      const left = (this.#ofPrincipals.get(principal) as number) - 1
      if (left > 0) this.#ofPrincipals.set(principal, left)
      else this.#ofPrincipals.delete(principal)
    }
  }

  /**
   * Counts a stream or a WebSocket until it closes.
   *
   * @throws ProblemError too-many-requests
   */
  openStream({ principal, ws, raw }: FastifyRequest, reply: FastifyReply): void {
    const close = this.open(principal)
    const stream = ws ? raw.socket : reply.raw
    // If the client has already disconnected, Node emits no 'close' event.
    if (stream.destroyed) close()
    else stream.once('close', close)
  }

  #refusal(): ProblemError {
    const message = 'This principal has too many open event streams, WebSockets and waiting requests'
    const headers = {
      'ratelimit-policy': `"open";q=${this.#limit};qu="concurrent-requests"`,
      ratelimit: `"open";r=0;t=${retryAfterSeconds}`,
    }
    return new ProblemError('too-many-requests', message, { retryAfterSeconds, headers })
  }
}
