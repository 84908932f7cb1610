import fc from 'fast-check'
import { RawConnection } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'
import { type GeneratedRequest, requests } from '../requests.ts'

const laneCount = 24
/** So many requests are generated at once. Their bodies take memory. */
const batchSize = 200
/** A malformed request may be answered late or never, for example when a part of its body is missing. */
const malformedTimeoutMs = 250
/** Longer than `Prefer: wait` makes a request wait. */
const answerTimeoutMs = 65_000
/** Of the well-formed requests, those that wait longer than this are given up. */
const waitTimeoutMs = 400

const mayWait = (text: string) => /\nprefer:[^\n]*wait=/i.test(text)
const what = ({ bytes }: GeneratedRequest) => Buffer.from(bytes.subarray(0, 600)).toString('latin1')

/** One connection after another, each for as many requests as the API answers on it. */
class Lane {
  readonly #attack: Attack
  #connection: RawConnection | undefined

  constructor(attack: Attack) {
    this.#attack = attack
  }

  async send(generated: GeneratedRequest): Promise<void> {
    const { bytes, isHead, isWellFormed } = generated
    const connection = this.#connection ?? new RawConnection(this.#attack.options.port)
    this.#connection = connection
    const text = what(generated)
    connection.send(bytes, [isHead])
    this.#attack.report.sent += 1
    const timeoutMs = !isWellFormed ? malformedTimeoutMs : mayWait(text) ? waitTimeoutMs : answerTimeoutMs
    const isStreaming = () => connection.incomplete?.headers.get('content-type')?.startsWith('text/event-stream')
    const response = (await nextOrStream(connection, timeoutMs, isStreaming)) ?? connection.incomplete
    if (connection.error) this.#attack.find(`${connection.error.message} for ${JSON.stringify(text)}`)
    if (response) this.#attack.record(response, text, { isHead })
    else if (isWellFormed && !mayWait(text)) this.#attack.find(`No answer to ${JSON.stringify(text)}`)
    else this.#attack.count('no answer')
    const isReusable = response && isWellFormed && response.headers.get('connection') !== 'close' && !isStreaming()
    if (!isReusable || connection.socket.destroyed) this.close()
  }

  close(): void {
    this.#connection?.close()
    this.#connection = undefined
  }
}

/** Waits for the next response, or for the head of a stream. */
async function nextOrStream(
  connection: RawConnection,
  timeoutMs: number,
  isStreaming: () => boolean | undefined,
): Promise<Awaited<ReturnType<RawConnection['next']>>> {
  const deadline = performance.now() + timeoutMs
  const stepMs = 50
  for (;;) {
    const response = await connection.next(Math.min(stepMs, timeoutMs))
    if (response || isStreaming() || connection.socket.closed || performance.now() > deadline) return response
  }
}

export const generatedRequests: Phase = {
  name: 'generated-requests',
  summary: 'every route with every method, and heads, headers and bodies that are wrong in many ways',
  async run(attack) {
    const { requests: count, seed, knownIds } = attack.options
    const lanes = Array.from({ length: laneCount }, () => new Lane(attack))
    for (let sent = 0; sent < count; sent += batchSize) {
      const numRuns = Math.min(batchSize, count - sent)
      const batch = fc.sample(requests(knownIds), { numRuns, seed: seed + sent })
      await Promise.all(
        lanes.map(async (lane) => {
          for (let next = batch.pop(); next; next = batch.pop()) await lane.send(next)
        }),
      )
    }
    for (const lane of lanes) lane.close()
  },
}
