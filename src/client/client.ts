import type { Monitor } from '../jobs/monitor-schema.ts'
import type { BatchItem, InputFor, OperationName, ResultFor, WithParams } from './contract.ts'
import { type CallOptions, Deadline } from './deadline.ts'
import { jobError } from './error.ts'
import { follow, poll, stream } from './follow.ts'
import { readResource } from './resource.ts'
import { type Params, Routes } from './routes.ts'
import { readJob, readJson, Transport, type TransportOptions } from './transport.ts'

/** The status of a job. */
export type Job<Result = unknown> = Omit<Monitor, 'result'> & { result?: Result }

/** The final status of a job that has succeeded. */
export type SucceededJob<Result = unknown> = Job<Result> & { result: Result }

/** A job, its id or the URL of its monitor. */
export type JobReference = string | { readonly id: string; readonly links?: { readonly self: string } }

export interface ClientOptions<Contract = unknown> extends TransportOptions {
  /**
   * The routes of operations, for example `{ 'todo.create': 'POST /todos' }`. Default: the client finds them in
   * `/openapi.json`, which it reads once. `getJob` and `submitBatch` are the routes of Accepted itself, in case they were
   * moved: `GET /jobs/{id}` and `POST /batches` by default.
   */
  routes?: Partial<Record<OperationName<Contract> | 'getJob' | 'submitBatch', `${string} /${string}`>>
}

export interface SubmitOptions extends CallOptions {
  /** The idempotency key. Give one to be able to repeat the call after an error. Default: a random key. */
  key?: string
}

export interface ChildrenOptions extends CallOptions {
  /** Yields only children with this status. Default: all. */
  status?: Monitor['status']
}

type SubmitArguments<Options> = Partial<Options> extends Options ? [options?: Options] : [options: Options]

/** Many jobs that are submitted, followed and canceled as one. */
export interface Batch<Contract = unknown> {
  items: readonly BatchItem<Contract>[]
  /** The job to enqueue when the batch ends. It takes no key: a batch ends once. */
  onEnd?: WithoutKey<BatchItem<Contract>>
  /** Whether the batch succeeds although jobs fail or are canceled. Default: false. */
  allowFailures?: boolean
}

/** Applied to each member of a union, so that an operation keeps its own input. */
type WithoutKey<Item> = Item extends unknown ? Omit<Item, 'key'> : never

export interface BatchResult {
  total: number
  succeeded: number
  failed: number
  canceled: number
}

/** A client of an API. Every method rejects with an {@link AcceptedError} or with the reason of the given signal. */
export interface Client<Contract = unknown> {
  /** Submits a request for an operation. Resolves as soon as its job is stored. */
  submit<Name extends OperationName<Contract>>(
    operation: Name,
    input: InputFor<Contract, Name>,
    ...options: SubmitArguments<SubmitOptions & WithParams<Contract, Name>>
  ): Promise<Job<ResultFor<Contract, Name>>>
  /** Submits many requests as one: all of them are stored, or none. */
  submitBatch(batch: Batch<Contract>, options?: SubmitOptions): Promise<Job<BatchResult>>
  /**
   * Waits until a job has succeeded. Resolves to what its result URL leads to: its resource (parsed JSON, or a Blob for
   * any other media type) or, without a resource, its inline result. Rejects if the job fails, is canceled or has
   * expired.
   */
  result<Result>(job: Job<Result>, options?: CallOptions): Promise<Result>
  result<Result = unknown>(job: JobReference, options?: CallOptions): Promise<Result>
  /** Waits as `result` does, but resolves to the final status of the job, with its inline result. */
  wait<Result>(job: Job<Result>, options?: CallOptions): Promise<SucceededJob<Result>>
  wait<Result = unknown>(job: JobReference, options?: CallOptions): Promise<SucceededJob<Result>>
  /** Yields the status of a job now and after each change, until the job has ended. Does not throw if the job fails. */
  watch<Result>(job: Job<Result>, options?: CallOptions): AsyncGenerator<Job<Result>, void>
  watch<Result = unknown>(job: JobReference, options?: CallOptions): AsyncGenerator<Job<Result>, void>
  /** Yields the children of a batch or of another job, the newest first, without their results. */
  children(job: JobReference, options?: ChildrenOptions): AsyncGenerator<Job, void>
  /** Reads the status of a job. */
  get<Result>(job: Job<Result>, options?: CallOptions): Promise<Job<Result>>
  get<Result = unknown>(job: JobReference, options?: CallOptions): Promise<Job<Result>>
  /** Cancels a queued job, or requests the cancellation of a running one. Rejects if the job has ended otherwise. */
  cancel(job: JobReference, options?: CallOptions): Promise<Job>
  /** Runs a failed or canceled job again, as a new job. */
  retry<Result>(job: Job<Result>, options?: SubmitOptions): Promise<Job<Result>>
  retry<Result = unknown>(job: JobReference, options?: SubmitOptions): Promise<Job<Result>>
}

/**
 * Creates a client of an API. Its type parameter makes operations, inputs and results typed: `typeof operations`, or what
 * openapi-typescript makes from `/openapi.json`.
 */
export function createClient<Contract = unknown>(options: ClientOptions<Contract>): Client<Contract> {
  const transport = new Transport(options)
  const routes = new Routes(transport, options.routes)

  /** Returns the URL of the monitor. Only URLs of the API get its headers, so a link to elsewhere is not used. */
  const urlOf = (job: JobReference): URL => {
    const link = typeof job === 'string' ? job : (job.links?.self ?? '')
    if (link.includes('/')) {
      const url = new URL(link, transport.base)
      if (transport.isOwn(url)) return url
      if (typeof job === 'string') throw new TypeError(`${job} is not a URL of ${transport.base}`)
    }
    return routes.urlOfJob(typeof job === 'string' ? job : job.id)
  }
  const post = (
    { method = 'POST', url }: { method?: string; url: URL },
    body: unknown,
    key: string | undefined,
    deadline: Deadline,
  ): Promise<Monitor> => {
    const headers = {
      accept: 'application/json',
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(key !== undefined && { 'idempotency-key': key }),
    }
    return transport.sendRepeatedly(url, { method, headers, body: JSON.stringify(body) }, deadline, readJob)
  }
  const submit = async (
    operation: string,
    input: unknown,
    { key = createKey(), params = {}, ...limits }: SubmitOptions & { params?: Params | undefined } = {},
  ): Promise<Monitor> => {
    const deadline = new Deadline(limits)
    return post(await routes.find(operation, params, deadline), input, key, deadline)
  }
  const act = async (job: JobReference, action: string, key: string | undefined, limits: CallOptions) =>
    post({ url: new URL(`${urlOf(job).href}/${action}`) }, undefined, key, new Deadline(limits))
  const wait = async (job: JobReference, deadline: Deadline): Promise<Monitor> => {
    let last: Monitor | undefined
    const sources = [poll({ waits: true, untilEnd: true }), stream, poll({ waits: false })]
    for await (last of follow(transport, urlOf(job), deadline, sources));
    const ended = last as Monitor
    if (ended.status !== 'succeeded') throw jobError(ended)
    return ended
  }

  const client = {
    submit,
    submitBatch: (batch: Batch, options?: SubmitOptions) => submit('submitBatch', batch, options),
    async result(job: JobReference, limits?: CallOptions) {
      const deadline = new Deadline(limits)
      const { resourceLocation, result } = await wait(job, deadline)
      return resourceLocation ? readResource(transport, resourceLocation, deadline) : result
    },
    wait: async (job: JobReference, limits?: CallOptions) => wait(job, new Deadline(limits)),
    watch: (job: JobReference, limits?: CallOptions) =>
      follow(transport, urlOf(job), new Deadline(limits), [stream, poll({ waits: true }), poll({ waits: false })]),
    async *children(job: JobReference, { status, ...limits }: ChildrenOptions = {}): AsyncGenerator<Monitor, void> {
      const deadline = new Deadline(limits)
      const { href } = urlOf(job)
      const slash = href.lastIndexOf('/')
      let query: string | undefined = `?parent=${href.slice(slash + 1)}&limit=100${status ? `&status=${status}` : ''}`
      while (query) {
        const page: Page = await transport.sendRepeatedly(
          new URL(href.slice(0, slash) + query),
          {},
          deadline,
          readJson<Page>,
        )
        yield* page.value
        query = page.nextLink && new URL(page.nextLink).search
      }
    },
    get: async (job: JobReference, limits?: CallOptions) =>
      transport.sendRepeatedly(urlOf(job), {}, new Deadline(limits), readJob),
    cancel: (job: JobReference, limits: CallOptions = {}) => act(job, 'cancel', undefined, limits),
    retry: (job: JobReference, { key = createKey(), ...limits }: SubmitOptions = {}) => act(job, 'retry', key, limits),
  }
  return client as Client<Contract>
}

/** A page of the list of jobs. */
interface Page {
  value: Monitor[]
  nextLink?: string
}

/** Makes a random idempotency key. Unlike crypto.randomUUID, it does not need a page that was loaded over HTTPS. */
const createKey = (): string => crypto.getRandomValues(new Uint32Array(4)).join('-')
