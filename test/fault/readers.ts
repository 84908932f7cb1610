import { setTimeout as delay } from 'node:timers/promises'
import type { RowContext } from './row.ts'
import type { SupervisedProcess } from './supervised-process.ts'

/** A reader gives a request up after this time. */
const requestTimeoutMs = 15_000
/** The pause between two requests of a reader. */
const pauseMs = 50

/** Clients that read and cancel jobs while the load submits them. */
export interface Readers extends AsyncDisposable {
  /** How many requests have been answered. */
  count(): number
  /** Stops the readers. Returns one finding per kind of wrong answer. */
  stop(): Promise<string[]>
}

/**
 * Starts readers. One lists jobs, one reads the newest job, one waits for its end, and one cancels it after its end. The
 * answer to each must be the expected one, or a 503 with Retry-After.
 */
export function startReaders({ apis }: RowContext): Readers {
  const stopping = new AbortController()
  const wrong = new Map<string, number>()
  let answered = 0
  let newest: string | undefined

  const request = async (name: string, url: string, expected: readonly number[], init: RequestInit = {}) => {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(requestTimeoutMs)])
    try {
      const response = await fetch(url, { ...init, signal })
      // biome-ignore lint/suspicious/noExplicitAny: a body of any shape
      const body: any = await response.json()
      answered += 1
      const isUnavailable = response.status === 503 && response.headers.has('retry-after')
      if (expected.includes(response.status)) return body
      if (!isUnavailable) count(`${name} was answered with ${response.status} ${JSON.stringify(body)}`)
    } catch (error) {
      if (!stopping.signal.aborted) count(`${name} failed: ${(error as Error).name}`)
    }
    return undefined
  }
  const count = (finding: string) => wrong.set(finding, (wrong.get(finding) ?? 0) + 1)
  const repeat = async (work: () => Promise<void>) => {
    while (!stopping.signal.aborted) {
      await work()
      await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const readers = [
    async () => {
      const list = await request('A list', `${(apis[0] as SupervisedProcess).url}/jobs?limit=1`, [200])
      newest = list?.value[0]?.links.self ?? newest
    },
    async () => void (newest && (await request('A read', newest, [200]))),
    async () => {
      if (newest) await request('A long poll', newest, [200], { headers: { prefer: 'wait=2' } })
    },
    // The load must lose no job, so only ended jobs are canceled, which is refused with 409.
    async () => {
      const url = newest
      const job = url && (await request('A read', url, [200]))
      if (job?.endedAt) await request('A cancel', `${url}/cancel`, [409], { method: 'POST' })
    },
  ]
  const running = Promise.all(readers.map(repeat))
  const stop = async () => {
    stopping.abort()
    await running
    return [...wrong].map(([finding, times]) => `${times} × ${finding}`)
  }
  return { count: () => answered, stop, [Symbol.asyncDispose]: async () => void (await stop()) }
}
