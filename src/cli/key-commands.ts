import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { ConfigError, type Scope } from '../config.ts'
import { hashApiKey } from '../http/api-key.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { OutputOptions } from './output-options.ts'
import { printLine } from './print-table.ts'
import { withDatabase } from './with-database.ts'

interface AddKeyOptions extends OutputOptions {
  principal?: string
  admin?: boolean
}

/** Runs `accepted keys add`: creates a key and prints it. The key cannot be printed again. */
export async function addKeyCommand(name: string, options: AddKeyOptions): Promise<void> {
  if (name.trim() === '' || options.principal?.trim() === '') {
    throw new ConfigError('The name and the principal of a key must not be empty.')
  }
  // The prefix lets secret scanners recognize a leaked key.
  const key = `accepted_${randomBytes(32).toString('base64url')}`
  const scopes: Scope[] = options.admin ? ['admin'] : []
  const row = { id: uuid7(), name, principal: options.principal ?? name, hash: hashApiKey(key), scopes }
  await withDatabase((db) => db.insertInto('accepted.api_key').values(row).execute())
  const { hash: _, ...shown } = row
  if (options.json) return console.log(JSON.stringify({ ...shown, key }))
  console.log(`${key}\n\nThis key is shown only once. Send it as \`Authorization: Bearer <key>\`.`)
  console.log(`Requests with this key have the principal ${row.principal}.`)
  console.log(`To revoke the key: accepted keys revoke ${row.id}`)
}

/** Runs `accepted keys list`: lists the names and principals of all keys, but not the keys themselves. */
export async function listKeysCommand(options: OutputOptions): Promise<void> {
  const columns = ['id', 'name', 'principal', 'scopes', 'created_at', 'revoked_at'] as const
  const keys = await withDatabase((db) => db.selectFrom('accepted.api_key').select(columns).orderBy('id').execute())
  if (options.json) return console.log(JSON.stringify(keys))
  if (keys.length === 0) {
    return console.log('No API keys: all requests are anonymous. Create a key with: accepted keys add <name>')
  }
  for (const { id, name, principal, scopes, revoked_at } of keys) {
    const revoked = revoked_at ? [`revoked ${revoked_at.toISOString()}`] : []
    printLine([id, name, principal, ...scopes, ...revoked].join('  '))
  }
}

/** Runs `accepted keys revoke`: makes a key invalid. Every API process refuses the key after at most one second. */
export async function revokeKeyCommand(id: string, options: OutputOptions): Promise<void> {
  const { numAffectedRows } = await withDatabase((db) =>
    sql`update accepted.api_key set revoked_at = coalesce(revoked_at, now()) where id::text = ${id}`.execute(db),
  )
  if (!numAffectedRows) throw new ConfigError(`There is no key ${id}. \`accepted keys list\` shows all keys.`)
  console.log(options.json ? JSON.stringify({ id, revoked: true }) : `Revoked ${id}.`)
}
