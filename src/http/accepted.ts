import type { FastifyInstance } from 'fastify'
import plugin from 'fastify-plugin'
import type { AcceptedOptions } from './options.ts'

/**
 * The Fastify plugin. It adds the routes of the operations, of their jobs and of webhook endpoints and, with the option
 * `routes`, for health, metrics and documentation. Run `accepted migrate` first.
 */
export const accepted = plugin(
  async (app: FastifyInstance, options: AcceptedOptions) => {
    // Every module that defines an operation imports this file, also in workers, which serve no HTTP.
    const { register } = await import('./plugin.ts')
    await register(app, options)
  },
  { name: 'accepted', fastify: '5.x' },
)
