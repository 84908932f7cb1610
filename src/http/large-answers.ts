import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { ProblemError } from '../errors.ts'
import { Limiter } from '../primitives/limiter.ts'
import { settledWithin } from '../primitives/timeout.ts'

/** How many large answers a process makes at the same time. Other requests use the other connections. */
const maxMaking = 4
/** The share of one principal, so that it cannot delay the others. */
const maxMakingOfPrincipal = 2
/**
 * The maximum size of all unsent answers, in characters. It does not apply to a principal that has none, so that no
 * principal waits for the clients of another.
 */
const maxUnsentChars = 64 * 1024 * 1024
const maxUnsentCharsOfPrincipal = 16 * 1024 * 1024
/** A client that takes longer to receive an answer is disconnected if the principal's next answer waits for room. */
const maxSendMs = 5_000
const roomCheckIntervalMs = 250

interface UnsentAnswer {
  principal: string
  chars: number
  raw: ServerResponse
  since: number
}

/**
 * Makes the answers that can be large: large results, lists and snapshots. Reading one takes a connection to Postgres
 * and blocks the event loop for milliseconds, and its text takes memory until the client has received it. So only some
 * are made at a time. Connections take turns, and principals have shares, so that small requests and other clients wait
 * only for a few of these answers and not for all.
 */
export class LargeAnswers {
  readonly #ofPrincipals = new Map<string, Limiter>()
  readonly #all = new Limiter(maxMaking)
  readonly #unsent = new Set<UnsentAnswer>()
  /** Resolves when the next response closes, which makes room. */
  #nextClose = Promise.withResolvers<void>()

  /**
   * Makes the text of an answer when it is its turn. The text counts as unsent until the response has closed.
   *
   * @throws the error of `make`; ProblemError bad-request if the client has disconnected
   */
  async make(reply: Pick<FastifyReply, 'request' | 'raw'>, make: () => Promise<string>): Promise<string> {
    const { raw } = reply
    const { principal } = reply.request
    await firstInLine(raw)
    return this.#ofPrincipal(principal, async () => {
      await this.#untilRoom(principal, raw)
      return this.#all.run(async () => {
        if (raw.destroyed) throw new ProblemError('bad-request', 'The client has disconnected')
        const text = await make()
        this.#remember({ principal, chars: text.length, raw, since: performance.now() })
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
      if (this.#ofPrincipals.get(principal)?.isIdle) this.#ofPrincipals.delete(principal)
    }
  }

  #remember(answer: UnsentAnswer): void {
    if (answer.raw.destroyed) return
    this.#unsent.add(answer)
    answer.raw.once('close', () => {
      this.#unsent.delete(answer)
      this.#nextClose.resolve()
      this.#nextClose = Promise.withResolvers()
    })
  }

  async #untilRoom(principal: string, raw: ServerResponse): Promise<void> {
    while (!this.#hasRoom(principal) && !raw.destroyed) {
      this.#cutOffSlow(principal)
      await settledWithin(this.#nextClose.promise, roomCheckIntervalMs)
    }
  }

  #hasRoom(principal: string): boolean {
    const sum = (answers: UnsentAnswer[]) => answers.reduce((total, { chars }) => total + chars, 0)
    const unsent = [...this.#unsent]
    const own = sum(unsent.filter((answer) => answer.principal === principal))
    return own === 0 || (own < maxUnsentCharsOfPrincipal && sum(unsent) < maxUnsentChars)
  }

  /** Disconnects the clients of the principal that take too long to receive an answer. */
  #cutOffSlow(principal: string): void {
    for (const answer of this.#unsent) {
      const isSlow = performance.now() - answer.since > maxSendMs
      if (isSlow && answer.principal === principal) answer.raw.destroy()
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
