import type { FastifyInstance } from 'fastify'
import { type Config, ConfigError } from '../config.ts'
import { hasHadKeys } from '../jobs/api-key.ts'
import { isLoopbackHost } from '../primitives/networks.ts'
import type { Settings } from '../settings.ts'

/**
 * Makes sure that serving requests without a credential is a decision: with neither `authenticate` nor API keys, the API
 * serves only this machine, unless ALLOW_ANONYMOUS is set.
 *
 * @throws ConfigError
 */
export async function assertAccessDecided(
  app: FastifyInstance,
  { authenticate }: Config,
  { HOST, ALLOW_ANONYMOUS }: Settings,
): Promise<void> {
  if (authenticate || (await hasHadKeys(app.accepted.db))) return
  const isLocal = isLoopbackHost(HOST)
  if (!isLocal && !ALLOW_ANONYMOUS) {
    throw new ConfigError(
      `With HOST=${HOST}, other machines can reach the API, and it would serve every request, because no API key exists. ` +
        'Create a key with `accepted keys add <name>`, or define `authenticate` in the configuration, or set ' +
        'ALLOW_ANONYMOUS=1 to serve requests without a credential.',
    )
  }
  const callers = isLocal ? 'this machine' : 'every machine'
  app.log.warn(
    `No API key exists: requests from ${callers} are served without one, as the principal anonymous. ` +
      'To require keys, create one: accepted keys add <name>',
  )
}
