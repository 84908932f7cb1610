import type { Deadline } from './deadline.ts'
import { AcceptedError } from './error.ts'
import { readJson, type Transport } from './transport.ts'

export type Params = Readonly<Record<string, string | number>>

/** The routes of Accepted itself, as it has them by default. */
const ownRoutes: Readonly<Record<string, string>> = { getJob: 'GET /jobs/{id}', submitBatch: 'POST /batches' }

/** Finds the routes of operations. */
export class Routes {
  readonly #transport: Transport
  readonly #given: Readonly<Record<string, string | undefined>>
  #described: Promise<Readonly<Record<string, string>>> | undefined

  /** @param given routes by the name of the operation, for example `POST /todos/{id}/reminders` */
  constructor(transport: Transport, given: Readonly<Record<string, string | undefined>> = {}) {
    this.#transport = transport
    this.#given = given
  }

  /**
   * Returns the method and the URL of an operation. A name with a space is a route itself. A route that is not given is
   * looked up in the OpenAPI document, which is read once.
   *
   * @throws TypeError if the operation has no route, or a path parameter is missing
   */
  async find(name: string, params: Params, deadline: Deadline): Promise<{ method: string; url: URL }> {
    const known = name.includes(' ') ? name : (this.#given[name] ?? ownRoutes[name])
    return this.#fill(name, known ?? (await this.#describedRoutes(deadline))[name], params)
  }

  /** Returns the URL of the monitor of a job. */
  urlOfJob(id: string): URL {
    return this.#fill('getJob', this.#given.getJob ?? ownRoutes.getJob, { id }).url
  }

  #fill(name: string, route: string | undefined, params: Params): { method: string; url: URL } {
    if (!route) throw new TypeError(`The API has no route for ${name}`)
    const [method = '', template = ''] = route.split(' ')
    const path = template.replace(/\{(\w+)\}|:(\w+)/g, (_, braced, plain) => {
      const value = `${params[braced ?? plain] ?? ''}`
      // As a segment of a path, dots would lead to another route.
      if (/^\.{0,2}$/.test(value)) throw new TypeError(`${name} needs params.${braced ?? plain}, not '${value}'`)
      return encodeURIComponent(value)
    })
    return { method, url: new URL(this.#transport.base + path) }
  }

  async #describedRoutes(deadline: Deadline): Promise<Readonly<Record<string, string>>> {
    this.#described ??= this.#readDescription(deadline)
    try {
      return await this.#described
    } catch (error) {
      // The next call tries again.
      this.#described = undefined
      if (!(error instanceof AcceptedError && error.status === 404)) throw error
      throw new TypeError('The API has no /openapi.json. Give the client the option routes', { cause: error })
    }
  }

  async #readDescription(deadline: Deadline): Promise<Readonly<Record<string, string>>> {
    const { paths = {} } = await this.#transport.sendRepeatedly(
      new URL(`${this.#transport.base}/openapi.json`),
      {},
      deadline,
      readJson<Description>,
    )
    return Object.fromEntries(
      Object.entries(paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, { operationId }]) => [operationId, `${method.toUpperCase()} ${path}`]),
      ),
    )
  }
}

/** The part of an OpenAPI document that contains the routes. */
interface Description {
  paths?: Record<string, Record<string, { operationId?: string }>>
}
