import type { Authenticate } from './identity.ts'

/** The content of `accepted.config.ts`. All paths are relative to this file. */
export interface Config {
  /** A module namespace, or any other object, that contains the operations and schedules. Other values are ignored. */
  operations: object
  /** Path of the module whose default export is made by `defineHandlers`. Only the worker loads this module. */
  handlers: string
  /**
   * Path of a module whose default export is a Fastify plugin with the app's own routes. Only the API loads this
   * module. Each route needs a credential like those of Accepted, unless it has `config: { public: true }`.
   */
  routes?: string
  /** Directory of the app's own `.sql` migrations. These migrations run after Accepted's own migrations. */
  migrations?: string
  /**
   * Authenticates every request, except requests to the health routes and to public routes of the app. Default:
   * authentication by API key. Until the first API key exists, requests from this machine have the principal
   * `anonymous`.
   */
  authenticate?: Authenticate
}

/** Defines the configuration of an app: the default export of `accepted.config.ts`. */
export function defineConfig(config: Config): Config {
  return config
}

/** Thrown when an argument, a setting or the configuration is wrong. The message tells the operator what to do. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}
