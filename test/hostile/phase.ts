import { problems } from '../../src/problems.ts'
import type { RawResponse } from './http.ts'

/** A kind of hostile traffic. */
export interface Phase {
  name: string
  summary: string
  /** Sends the traffic. Runs in the process of the attackers. */
  run(attack: Attack): Promise<void>
}

export interface AttackOptions {
  port: number
  /** Makes the generated requests the same in another run. */
  seed: number
  /** How many requests to generate. */
  requests: number
  /** 1 for the whole run. Smaller values make each phase shorter, with less traffic. */
  scale: number
  /** Ids of jobs that exist. */
  knownIds: readonly string[]
}

/** What the attackers saw. */
export interface AttackReport {
  sent: number
  /** Counts the answers by status; those with 503 by code too. */
  statuses: Record<string, number>
  findings: string[]
  /** The ids of the jobs that were accepted. */
  accepted: string[]
}

const maxFindings = 20
const codes: Readonly<Record<string, { status: number }>> = problems

/** The context of a phase: its options, and the place for what it sees. */
export class Attack {
  readonly options: AttackOptions
  readonly #onStep: (step: string) => void
  readonly report: AttackReport = { sent: 0, statuses: {}, findings: [], accepted: [] }

  /** @param onStep is called when another part of the phase begins */
  constructor(options: AttackOptions, onStep: (step: string) => void) {
    this.options = options
    this.#onStep = onStep
  }

  /** Names the traffic that begins now. The report says during which traffic the bystander waited longest. */
  step(name: string): void {
    this.#onStep(name)
  }

  /** A count that grows with the scale. */
  scaled(count: number): number {
    return Math.ceil(count * this.options.scale)
  }

  find(finding: string): void {
    if (this.report.findings.length < maxFindings) this.report.findings.push(finding.slice(0, 1_000))
  }

  /** Counts an event that is not a status, for example a closed connection. */
  count(event: string): void {
    this.report.statuses[event] = (this.report.statuses[event] ?? 0) + 1
  }

  /**
   * Records an answer, and checks what must hold for every answer: no 5xx but a documented 503, and problem details in
   * each error.
   *
   * @param what shows the request in a finding
   */
  record(response: RawResponse, what: string, { isHead = false } = {}): void {
    const { status, headers, body } = response
    const problem = isHead ? undefined : parse(body)
    const code = problem?.error?.code
    this.count(status === 503 ? `503 ${code}` : `${status}`)
    const fail = (reason: string) =>
      this.find(`${reason}: ${status} ${JSON.stringify(body.slice(0, 300))} for ${JSON.stringify(what.slice(0, 400))}`)
    if (status >= 500 && status !== 503) fail('A 5xx other than 503')
    if (status === 503 && !headers.has('retry-after')) fail('A 503 without Retry-After')
    // Requests that prefer pages, as those of browsers do, get errors as pages.
    const isPage = headers.get('content-type')?.startsWith('text/html') && /^accept:.*html/im.test(what)
    if (status < 400 || isPage) return void this.#recordAccepted(status, problem)
    if (status === 503 && !isHead && codes[code]?.status !== 503) fail('A 503 without a documented code')
    if (!headers.get('content-type')?.startsWith('application/problem+json')) fail('An error without problem details')
    if (!isHead && typeof code !== 'string') fail('An error without a code')
  }

  #recordAccepted(status: number, problem: { id?: unknown } | undefined): void {
    if ((status === 202 || status === 200) && typeof problem?.id === 'string') this.report.accepted.push(problem.id)
  }
}

// biome-ignore lint/suspicious/noExplicitAny: any JSON
function parse(body: string): any {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}
