import type { Monitor } from '../jobs/monitor-schema.ts'
import type { Deadline } from './deadline.ts'
import { AcceptedError, responseError } from './error.ts'
import { Failures } from './failures.ts'

export type HeaderFields = Readonly<Record<string, string>>

export interface TransportOptions {
  /** The URL of the API, with the prefix of its routes. A page may give a path of its own origin. */
  url: string
  /** Headers of every request to the API, for example `authorization`; or a function that returns them each time. */
  headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>)
  /** Default: the global `fetch`. */
  fetch?: typeof fetch
  /** How long requests are repeated while they fail, in seconds. Default: 60. */
  retrySeconds?: number
}

export interface Request {
  method?: string
  headers?: HeaderFields
  body?: string | undefined
}

/** How long one attempt may take until its response is complete, in milliseconds. */
const maxAttemptMs = 30_000

/** Sends requests to the API. Only URLs of its origin get the headers of the app. */
export class Transport {
  /** The URL of the API without a trailing slash. */
  readonly base: string
  readonly #options: TransportOptions
  /** Whether a proxy has held an event stream back. Later streams would be held back too. */
  buffersStreams = false

  constructor(options: TransportOptions) {
    this.#options = options
    this.base = new URL(options.url, (globalThis as { location?: { href: string } }).location?.href).href.replace(
      /\/$/,
      '',
    )
  }

  isOwn(url: URL): boolean {
    return url.origin === new URL(this.base).origin
  }

  /**
   * Sends a request once.
   *
   * @param read reads the response; it may remove the time limit, for a large body
   * @throws AcceptedError
   */
  async send<Value>(
    url: URL,
    { method = 'GET', headers, body }: Request,
    deadline: Deadline,
    read: (response: Response, unlimit: () => void) => Promise<Value>,
    maxMs = maxAttemptMs,
  ): Promise<Value> {
    const { headers: given, fetch: send = fetch } = this.#options
    const isOwn = this.isOwn(url)
    const own = isOwn && (typeof given === 'function' ? await given() : given)
    // Browsers follow a redirect without showing its target, and with these headers.
    const redirect = isOwn && (given || method !== 'GET') ? 'manual' : 'follow'
    const init: RequestInit = {
      method,
      redirect,
      body: body ?? null,
      cache: 'no-store',
      ...(!isOwn && { credentials: 'omit' }),
      headers: new Headers({ ...own, ...headers }),
    }
    return deadline.run(`${method} ${url.href}`, maxMs, async (signal, unlimit) =>
      read(await send(url.href, { ...init, signal }), unlimit),
    )
  }

  /** Sends a request. Repeats it while it fails and repeating may help. */
  sendRepeatedly<Value>(
    url: URL,
    request: Request,
    deadline: Deadline,
    read: (response: Response) => Promise<Value>,
  ): Promise<Value> {
    return this.repeat(deadline, () => this.send(url, request, deadline, read))
  }

  /** Repeats an attempt while it fails and repeating may help. */
  async repeat<Value>(deadline: Deadline, attempt: () => Promise<Value>): Promise<Value> {
    for (const failures = this.createFailures(); ; ) {
      try {
        return await attempt()
      } catch (error) {
        await failures.pause(error, deadline)
      }
    }
  }

  createFailures(): Failures {
    return new Failures((this.#options.retrySeconds ?? 60) * 1000)
  }
}

/** @throws AcceptedError, or a SyntaxError for a response that is not from the API */
export async function readJson<Value>(response: Response): Promise<Value> {
  if (!response.ok) throw await responseError(response)
  return (await response.json()) as Value
}

/** Reads the status of a job. Throws as {@link readJson} does, and if the answer is not the status of a job. */
export async function readJob(response: Response): Promise<Monitor> {
  const job = await readJson<Monitor>(response)
  if (isJob(job)) return job
  const { url, status } = response
  throw new AcceptedError(`The answer of ${url} is no job`, { code: 'http-error', status })
}

export const isJob = (value: unknown): value is Monitor =>
  typeof (value as Partial<Monitor> | null)?.sequence === 'number'
