import type { FastifyRequest } from 'fastify'
import { defaultJobsPath, type Site } from '../jobs/site.ts'
import { siteFrom } from './protocol/origin.ts'
import type { ProblemPaths } from './protocol/problem.ts'

/** The paths of the plugin's routes, below its prefix. */
export interface RoutePaths {
  /** The job list. The routes of each job are below it. */
  jobs: string
  /** The events of all jobs of the caller: server-sent events and WebSocket. */
  events: string | false
  /** The routes that manage webhook endpoints. */
  webhooks: string | false
  /** The route that accepts batches. */
  batches: string | false
  /** The routes that manage API keys. */
  keys: string | false
  /** The pages for operators. */
  console: string | false
  /** The documentation page and the pages of problem codes. `openapi.json` and `asyncapi.json` are beside it. */
  docs: string | false
  /** The metrics of the process, for Prometheus. */
  metrics: string | false
  /** The path above `live` and `ready`. */
  health: string | false
}

/** The paths without the option `routes`. A host app often has its own health, metrics and docs routes. */
export const defaultRoutePaths: RoutePaths = {
  jobs: defaultJobsPath,
  events: '/events',
  webhooks: '/webhooks',
  batches: '/batches',
  keys: '/keys',
  console: '/console',
  docs: false,
  metrics: false,
  health: false,
}

/** The paths that `accepted api` adds to the defaults. */
export const servicePaths = { docs: '/docs', metrics: '/metrics', health: '/health' } as const

/**
 * Completes the paths with the defaults.
 *
 * @throws TypeError if a path is invalid
 */
function resolveRoutePaths(given: Partial<RoutePaths> = {}): RoutePaths {
  const known = Object.keys(defaultRoutePaths).join(', ')
  for (const [name, path] of Object.entries(given)) {
    if (!Object.hasOwn(defaultRoutePaths, name)) throw new TypeError(`There is no routes.${name}; routes has ${known}`)
    if (path === undefined || isFixedPath(path) || (path === false && name !== 'jobs')) continue
    const orFalse = name === 'jobs' ? '' : ', or false for no such route'
    throw new TypeError(`routes.${name} must be a path like '/accepted/${name}'${orFalse}, not ${JSON.stringify(path)}`)
  }
  const defined = Object.entries(given).filter(([, path]) => path !== undefined)
  return { ...defaultRoutePaths, ...Object.fromEntries(defined) }
}

/** Where the plugin's routes are, as the app and as clients see it. */
export interface Mount {
  /** The paths of the plugin's routes, below its prefix. */
  paths: RoutePaths
  /** The prefix of all routes of the plugin, without a trailing slash. */
  prefix: string
  /** The path of the public URL, which a proxy removes from each request. Empty if there is none. */
  publicPath: string
  /** Returns the URLs for the links in a response. */
  siteOf(request: FastifyRequest): Site
}

/**
 * Works out where the plugin's routes are.
 *
 * @param scopePrefix the prefix of the scope in which the plugin is registered
 * @throws TypeError if the prefix, the public URL or a path is invalid
 */
export function mountOf(
  scopePrefix: string,
  options: { prefix?: string; publicUrl?: string; routes?: Partial<RoutePaths> | string },
): Mount {
  const { publicUrl } = options
  const paths = resolveRoutePaths(typeof options.routes === 'string' ? {} : options.routes)
  const prefix = `${scopePrefix}/${options.prefix ?? ''}`.replace(/\/+/g, '/').replace(/\/$/, '')
  if (prefix !== '' && !isFixedPath(prefix)) {
    throw new TypeError(`The prefix of accepted must be a path without parameters, like '/api', not '${prefix}'`)
  }
  return { paths, prefix, siteOf: siteFrom(publicUrl, prefix, paths.jobs), publicPath: publicPathOf(publicUrl) }
}

/** Returns the path of a public URL without its trailing slash. */
const publicPathOf = (publicUrl: string | undefined): string =>
  publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '')

/** Returns whether a value is a path without parameters, wildcards and a trailing slash. */
const isFixedPath = (path: unknown): path is string =>
  typeof path === 'string' && /^(\/[\w.~!$&'()+,;=@-]+)+$/.test(path)

/** Returns the path of the pages that explain problem codes. They exist even without the documentation page. */
export const problemPagesPath = ({ docs, jobs }: RoutePaths): string => `${docs || jobs}/problems`

/** Returns the paths for problem details, as clients see them. */
export const problemPathsOf = ({ paths, prefix, publicPath }: Mount): ProblemPaths => ({
  publicPath,
  pages: publicPath + prefix + problemPagesPath(paths),
})

/** Returns the path of a document beside the documentation page, for example `/openapi.json` beside `/docs`. */
export const besideDocs = (docs: string, name: string): string => docs.slice(0, docs.lastIndexOf('/') + 1) + name
