import type { FastifyInstance } from 'fastify'
import type { ConsoleContext } from './context.ts'

/** A page of the console with the pages and forms below it. */
export interface ConsolePage {
  /** The path below the console, for example `/jobs`. */
  path: string
  /** Its text in the navigation. Undefined: it is not in the navigation. */
  label?: string
  /** Adds its routes. Their paths are below the console. Only operators get there. */
  addRoutes(app: FastifyInstance, context: ConsoleContext): void
}
