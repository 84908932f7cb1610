import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { ConfigError, type Scope } from '../config.ts'
import { hashApiKey } from '../http/api-key.ts'
import { uuid7 } from '../uuid.ts'
import { withDatabase } from './with-database.ts'

interface Output {
  json?: boolean
}

/** `accepted keys add`: makes a key and shows it, this once. */
export async function addKey(name: string, options: Output & { principal?: string; admin?: boolean }): Promise<void> {
  // The prefix lets scanners for leaked secrets find it.
  const key = `accepted_${randomBytes(32).toString('base64url')}`
  const scopes: Scope[] = options.admin ? ['admin'] : []
  const row = { id: uuid7(), name, principal: options.principal ?? name, hash: hashApiKey(key), scopes }
  await withDatabase((db) => db.insertInto('accepted.api_key').values(row).execute())
  const { hash: _, ...shown } = row
  if (options.json) return console.log(JSON.stringify({ ...shown, key }))
  console.log(`${key}\n\nIt is shown this once. Whoever sends it as \`Authorization: Bearer …\` is ${row.principal}.`)
  console.log(`Revoke it with: accepted keys revoke ${row.id}`)
}

/** `accepted keys list`: every key, without the key. */
export async function listKeys(options: Output): Promise<void> {
  const columns = ['id', 'name', 'principal', 'scopes', 'created_at', 'revoked_at'] as const
  const keys = await withDatabase((db) => db.selectFrom('accepted.api_key').select(columns).orderBy('id').execute())
  if (options.json) return console.log(JSON.stringify(keys))
  if (keys.length === 0) return console.log('There are no keys: everybody is anonymous. `accepted keys add <name>`')
  for (const { id, name, principal, scopes, revoked_at } of keys) {
    const revoked = revoked_at ? [`revoked ${revoked_at.toISOString()}`] : []
    console.log([id, name, principal, ...scopes, ...revoked].join('  '))
  }
}

/** `accepted keys revoke`: refuses a key, within a second. */
export async function revokeKey(id: string, options: Output): Promise<void> {
  const { numAffectedRows } = await withDatabase((db) =>
    sql`update accepted.api_key set revoked_at = coalesce(revoked_at, now()) where id::text = ${id}`.execute(db),
  )
  if (!numAffectedRows) throw new ConfigError(`There is no key ${id}; \`accepted keys list\` shows them all.`)
  console.log(options.json ? JSON.stringify({ id, revoked: true }) : `Revoked ${id}.`)
}
