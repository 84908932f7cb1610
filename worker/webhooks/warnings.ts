import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import type { Site } from '../../src/jobs/site.ts'
import { hasRemoteEndpoint } from '../../src/jobs/webhook-endpoint.ts'
import { clearSecretsWarning, hasEndpoints } from '../../src/jobs/webhook-secret.ts'
import type { KeyRing } from '../../src/primitives/key-ring.ts'
import { isLoopbackHost } from '../../src/primitives/networks.ts'

const localLinksWarning =
  'The links in webhooks lead to this machine, and other machines cannot follow them: set PUBLIC_URL to the URL of the API'

/** Warns if signing secrets are stored in the clear, or if the endpoints cannot follow the links in webhooks. */
export async function warnOfWebhooks(
  { kysely }: Database,
  { site, keys, log }: { site: Site; keys: KeyRing | undefined; log: Logger },
): Promise<void> {
  if (!keys && (await hasEndpoints(kysely))) log.warn(clearSecretsWarning)
  const isLocal = isLoopbackHost(new URL(site.url).hostname.replace(/^\[|\]$/g, ''))
  if (isLocal && (await hasRemoteEndpoint(kysely))) log.warn({ url: site.url }, localLinksWarning)
}
