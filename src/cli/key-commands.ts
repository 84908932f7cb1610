import type { Kysely } from 'kysely'
import { ConfigError } from '../config.ts'
import type { Tables } from '../db/tables.ts'
import {
  type ApiKey,
  type ApiKeyWithSecret,
  createKey,
  findKeyViolation,
  hasHadKeys,
  listKeys,
  maxLifetimeSeconds,
  maxNameLength,
  type NewApiKey,
  revokeKey,
  rotateKey,
} from '../jobs/api-key.ts'
import type { AnyTransaction } from '../operation.ts'
import { isScope, scopes as knownScopes } from '../scopes.ts'
import { type ListOptions, printList } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { parseDuration } from './parse-duration.ts'
import { withDatabase } from './with-database.ts'

interface AddKeyOptions extends OutputOptions {
  principal?: string
  scopes?: string[]
  operations?: string[]
  expires?: string
  ifNone?: boolean
}

/** Runs `accepted keys add`: creates a key and prints it. The key cannot be printed again. */
export async function addKeyCommand(name: string, options: AddKeyOptions): Promise<void> {
  const request = toNewKey(name, options)
  const key = await withDatabase(async (db) => {
    if (options.ifNone && (await hasHadKeys(db))) return undefined
    await assertCreatable(db, request)
    return transact(db, (trx) => createKey(trx, request))
  })
  if (key) printKey(key, options)
  else console.log(options.json ? 'null' : 'A key has existed before, so no key was created.')
}

function toNewKey(name: string, { principal, scopes, operations, expires }: AddKeyOptions): NewApiKey {
  if (name.trim() === '' || name.length > maxNameLength) {
    throw new ConfigError(`The name of a key must have 1 to ${maxNameLength} characters.`)
  }
  const unknown = scopes?.find((scope) => !isScope(scope))
  if (unknown !== undefined || scopes?.length === 0) {
    throw new ConfigError(`--scopes must be some of ${knownScopes.join(', ')}, not '${unknown ?? ''}'.`)
  }
  const expiresInSeconds = expires === undefined ? undefined : parseDuration(expires)
  if (expires !== undefined && !(expiresInSeconds && expiresInSeconds <= maxLifetimeSeconds)) {
    const maxDays = maxLifetimeSeconds / 86_400
    throw new ConfigError(`--expires must be a duration of at most ${maxDays}d, like 12h or 30d, not '${expires}'.`)
  }
  return {
    name,
    ...(principal !== undefined && { principal }),
    ...(scopes && { scopes: [...new Set(scopes.filter(isScope))] }),
    ...(operations?.length && { operations: [...new Set(operations)] }),
    ...(expiresInSeconds && { expiresInSeconds }),
  }
}

/** The operations are those that `accepted migrate` or a process has written to the database. */
async function assertCreatable(db: Kysely<Tables>, key: NewApiKey): Promise<void> {
  const rows = key.operations ? await db.selectFrom('accepted.operation').select('name').execute() : []
  const known = new Set(rows.map(({ name }) => name))
  const violation = findKeyViolation(key, known)
  if (!violation) return
  const option = violation.pointer.startsWith('/operations') ? '--operations' : '--principal'
  const hint = option === '--operations' ? ` The operations are ${[...known].sort().join(', ')}.` : ''
  throw new ConfigError(`${option} is invalid: it ${violation.message}.${hint}`)
}

/** Runs `accepted keys rotate`: replaces a key and prints the new one. The old key is accepted for another day. */
export async function rotateKeyCommand(id: string, options: OutputOptions): Promise<void> {
  const key = await withDatabase((db) => transact(db, (trx) => rotateKey(trx, id)))
  if (!key)
    throw new ConfigError(
      `There is no valid key ${id}, or it was replaced before. \`accepted keys list\` shows all keys.`,
    )
  printKey(key, options)
  if (!options.json) console.log(`The old key ${id} is accepted for another day. Revoke it when no client uses it.`)
}

function printKey(key: ApiKeyWithSecret, { json }: OutputOptions): void {
  if (json) {
    console.log(JSON.stringify(key))
    return
  }
  console.log(`${key.key}\n\nThis key is shown only once. Send it as \`Authorization: Bearer <key>\`.`)
  const operations = key.operations ? ` for the operations ${key.operations.join(', ')}` : ''
  console.log(
    `Requests with this key have the principal ${key.principal} and the scopes ${key.scopes.join(', ')}${operations}.`,
  )
  if (key.expiresAt) console.log(`The key expires at ${key.expiresAt}.`)
  console.log(`To revoke the key: accepted keys revoke ${key.id}`)
}

/** Runs `accepted keys list`: lists all keys with their scopes and last use, but not the keys themselves. */
export const listKeysCommand = (options: ListOptions): Promise<void> =>
  printList<ApiKey>(
    {
      columns: [
        { heading: 'ID', cell: ({ id }) => id },
        { heading: 'NAME', cell: ({ name }) => name, whenNarrow: 'cut' },
        { heading: 'PRINCIPAL', cell: ({ principal }) => principal, whenNarrow: 'omit' },
        { heading: 'SCOPES', cell: ({ scopes }) => scopes.join(','), whenNarrow: 'cut' },
        { heading: 'OPERATIONS', cell: ({ operations }) => operations?.join(',') ?? 'all', whenNarrow: 'omit' },
        { heading: 'PREFIX', cell: ({ prefix }) => `${prefix}…`, whenNarrow: 'omit' },
        {
          heading: 'STATUS',
          cell: ({ status }) => status,
          style: ({ status }) => (status === 'valid' ? 'green' : 'gray'),
        },
        { heading: 'LAST USED', cell: ({ lastUsedAt }) => toTime(lastUsedAt), whenNarrow: 'omit' },
        { heading: 'EXPIRES', cell: ({ expiresAt }) => toTime(expiresAt), whenNarrow: 'omit' },
      ],
      read: listKeys,
      whenEmpty: async (db) => {
        const effect = (await hasHadKeys(db)) ? 'all requests are rejected' : 'requests from this machine are anonymous'
        return `No API keys: ${effect}. Create a key with: accepted keys add <name>`
      },
    },
    options,
  )

const toTime = (text: string | null | undefined) => (text ? new Date(text) : 'never')

/** Runs `accepted keys revoke`: makes a key invalid. Every API process refuses the key after at most one second. */
export async function revokeKeyCommand(id: string, options: OutputOptions): Promise<void> {
  const found = await withDatabase((db) => transact(db, (trx) => revokeKey(trx, id)))
  if (!found) throw new ConfigError(`There is no key ${id}. \`accepted keys list\` shows all keys.`)
  console.log(options.json ? JSON.stringify({ id, revoked: true }) : `Revoked ${id}.`)
}

const transact = <Result>(db: Kysely<Tables>, work: (trx: AnyTransaction) => Promise<Result>): Promise<Result> =>
  db.transaction().execute((trx) => work(trx as unknown as AnyTransaction))
