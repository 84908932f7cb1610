import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import { ProblemError } from '../errors.ts'
import { Limiter } from '../primitives/limiter.ts'

/** The maximum number of large answers that a process makes at the same time. Other requests use the other connections. */
const maxMaking = 4
/** The share of one principal, so that it cannot delay the others. */
const maxMakingOfPrincipal = 2
/** The maximum size of the answers that wait to be sent, in characters, unless each has another principal. */
const maxUnsent = 64 * 1024 * 1024
const maxUnsentOfPrincipal = 16 * 1024 * 1024
/** While others wait for the room, a client must receive an answer within this time. */
const maxSendMs = 5_000
const roomCheckIntervalMs = 250

interface UnsentAnswer {
  principal: string
  size: number
  socket: Socket
  since: number
}

/**
 * Makes the answers that can be large: large results, lists and snapshots. Reading one takes a connection to Postgres
 * and blocks the event loop for milliseconds, and its text takes memory until the client has received it. So only some
 * are made at a time. Connections take turns, and principals have shares, so that small requests and other clients wait
 * only for a few of these answers and not for all.
 */
export class LargeAnswers {
  /** The callers that wait for room. */
  readonly #waiting = new Set<() => void>()
  readonly #ofPrincipals = new Map<string, Limiter>()
  readonly #all = new Limiter(maxMaking)
  readonly #unsent = new Set<UnsentAnswer>()

  /**
   * Makes the text of an answer when it is its turn. The text counts as unsent until the response has closed.
   *
   * @throws the error of `make`; ProblemError bad-request if the client has disconnected, so that nobody needs the text
   */
  async make(reply: Pick<FastifyReply, 'request' | 'raw'>, make: () => Promise<string>): Promise<string> {
    const { raw } = reply
    const { principal, socket } = reply.request
    await firstInLine(raw)
    return this.#ofPrincipal(principal, async () => {
      await this.#untilRoom(principal, raw)
      return this.#all.run(async () => {
        if (raw.destroyed) throw new ProblemError('bad-request', 'The client has disconnected')
        const text = await make()
        this.#remember({ principal, size: text.length, socket, since: performance.now() }, raw)
        return text
      })
    })
  }

  async #ofPrincipal<Result>(principal: string, work: () => Promise<Result>): Promise<Result> {
    const limiter = this.#ofPrincipals.get(principal) ?? new Limiter(maxMakingOfPrincipal)
    this.#ofPrincipals.set(principal, limiter)
    try {
      return await limiter.run(work)
    } finally {
      if (limiter.isIdle && this.#ofPrincipals.get(principal) === limiter) this.#ofPrincipals.delete(principal)
    }
  }

  #remember(answer: UnsentAnswer, raw: ServerResponse): void {
    if (raw.destroyed) return
    this.#unsent.add(answer)
    raw.once('close', () => {
      this.#unsent.delete(answer)
      for (const wake of this.#waiting) wake()
    })
  }

  async #untilRoom(principal: string, raw: ServerResponse): Promise<void> {
    while (!this.#hasRoom(principal) && !raw.destroyed) {
      this.#cutOffSlow(principal)
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiting.add(resolve)
      const timer = setTimeout(resolve, roomCheckIntervalMs)
      await promise
      clearTimeout(timer)
      this.#waiting.delete(resolve)
    }
  }

  #hasRoom(principal: string): boolean {
    const sizeOf = (answers: UnsentAnswer[]) => answers.reduce((sum, { size }) => sum + size, 0)
    const own = sizeOf([...this.#unsent].filter((answer) => answer.principal === principal))
    return own === 0 || (own < maxUnsentOfPrincipal && sizeOf([...this.#unsent]) < maxUnsent)
  }

  /** Disconnects the clients that take too long to receive an answer. */
  #cutOffSlow(principal: string): void {
    for (const { socket, since, ...answer } of this.#unsent) {
      const isSlow = performance.now() - since > maxSendMs
      if (isSlow && answer.principal === principal) socket.destroy()
    }
  }
}

/**
 * Waits until the earlier responses on the connection have been sent. An answer that is made sooner would take memory
 * until then, and it could take the room that an earlier one needs.
 */
async function firstInLine(raw: ServerResponse): Promise<void> {
  if (raw.socket || raw.destroyed) return
  await Promise.race([once(raw, 'socket'), once(raw, 'close')])
}
