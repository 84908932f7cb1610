import { sql } from 'kysely'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { type Check, type CheckContext, type Finding, findingsOf } from './check.ts'
import { literal } from './format.ts'

/** Webhook endpoints that get nothing, and their signing secrets. */
export const webhooks: readonly Check[] = [
  { name: 'webhook endpoints', run: disabledEndpoints },
  { name: 'webhook breakers', run: openBreakers },
  { name: 'webhook secrets', run: secrets },
]

// The path and the query of a URL may contain a secret.
const hostOf = (url: string) => URL.parse(url)?.host ?? 'unknown'

async function disabledEndpoints({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ id: string; url: string; disabled_at: Date; reason: string | null }>`
    select id::text, url, disabled_at, disabled_reason as reason from accepted.webhook_endpoint
    where disabled_at is not null order by disabled_at desc limit ${limits.findings}`)
  return rows.map(({ id, url, disabled_at, reason }) => ({
    code: 'webhook-disabled',
    severity: 'warning',
    message: `The webhook endpoint ${id} at ${hostOf(url)} has been disabled since ${disabled_at.toISOString()} (${reason ?? 'no reason given'}).`,
    action: `When it answers again: update accepted.webhook_endpoint set disabled_at = null, disabled_reason = null where id = ${literal(id)}. Or: accepted webhooks remove ${id}`,
    details: { id, disabledAt: disabled_at, reason },
  }))
}

async function openBreakers({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ id: string; url: string; failures: number; opened_at: Date; probe_at: Date }>`
    select id::text, url, consecutive_failures as failures, opened_at, probe_at from accepted.webhook_endpoint
    where opened_at is not null and disabled_at is null order by opened_at limit ${limits.findings}`)
  return rows.map(({ id, url, failures, opened_at, probe_at }) => ({
    code: 'webhook-failing',
    severity: 'warning',
    message: `Deliveries to the webhook endpoint ${id} at ${hostOf(url)} fail (${formatNumber(failures)} in a row). Since ${opened_at.toISOString()}, one delivery at a time is tried, and the others wait.`,
    action: `See its answers: accepted webhooks log ${id}. When it works again, deliveries continue. To remove it: accepted webhooks remove ${id}`,
    details: { id, failures, openedAt: opened_at, nextAttemptAt: probe_at },
  }))
}

interface KeyUse {
  /** Null: the secrets are not encrypted. */
  key: string | null
  endpoints: number
}

async function secrets({ query, keyIds, note }: CheckContext): Promise<Finding[]> {
  const uses = await query(sql<KeyUse>`
    select key, count(distinct id)::int as endpoints
    from accepted.webhook_endpoint cross join unnest(secret_key_ids) as key group by key order by key`)
  if (uses.length > 0)
    note(uses.map(({ key, endpoints }) => `${formatCount(endpoints, 'endpoint')} with ${describe(key)}`).join(', '))
  const inClear = uses.find(({ key }) => key === null)
  const missing = uses.filter(({ key }) => key !== null && !keyIds.includes(key))
  return findingsOf(
    inClear && {
      code: 'webhook-secret-in-clear',
      severity: 'warning',
      message: `The signing secrets of ${formatCount(inClear.endpoints, 'webhook endpoint')} are stored in clear.`,
      action: 'Set ENCRYPTION_KEYS for API and worker, then run: accepted webhooks rekey',
      details: { endpoints: inClear.endpoints },
    },
    ...missing.map(({ key, endpoints }) => missingKey(key, endpoints, keyIds.length > 0)),
  )
}

const describe = (key: string | null) => (key === null ? 'secrets in clear' : `the key ${key}`)

/** Without ENCRYPTION_KEYS, this command may run elsewhere than the worker. */
const missingKey = (key: string | null, endpoints: number, hasKeys: boolean): Finding => ({
  code: 'webhook-key-missing',
  severity: hasKeys ? 'error' : 'warning',
  message:
    `The signing secrets of ${formatCount(endpoints, 'webhook endpoint')} are encrypted with the key ${key}, ` +
    `${hasKeys ? 'which ENCRYPTION_KEYS does not contain' : 'and ENCRYPTION_KEYS is not set here'}.`,
  action: `Add the key ${key} to ENCRYPTION_KEYS. If it is lost: accepted webhooks rotate <id>, and give the receiver the new secret.`,
  details: { key, endpoints },
})
