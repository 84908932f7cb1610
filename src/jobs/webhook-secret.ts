import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { DecryptionError, isEncrypted, type KeyRing, keyIdOf } from '../primitives/key-ring.ts'

/** Creates a secret in the format of Standard Webhooks: this prefix, then 24 to 64 bytes in base64. */
export const newSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`

/** An encrypted secret that is copied to another endpoint cannot be decrypted there. */
const contextOf = (endpointId: string) => `webhook ${endpointId}`

/** Encrypts a secret for the table. Without keys, the table contains the secret in clear. */
export const toStoredSecret = (secret: string, endpointId: string, keys: KeyRing | undefined): string =>
  keys ? keys.encrypt(secret, contextOf(endpointId)) : secret

/**
 * Decrypts a secret from the table.
 *
 * @throws DecryptionError when its key is missing
 */
export function fromStoredSecret(stored: string, endpointId: string, keys: KeyRing | undefined): string {
  if (!isEncrypted(stored)) return stored
  if (!keys) {
    const message = `ENCRYPTION_KEYS is not set, so the key ${keyIdOf(stored)} is missing`
    throw new DecryptionError('decryption-key-missing', message)
  }
  return keys.decrypt(stored, contextOf(endpointId))
}

/** What a process without ENCRYPTION_KEYS logs if there are endpoints. */
export const clearSecretsWarning =
  'The signing secrets of webhooks are stored in clear: set ENCRYPTION_KEYS, then run `accepted webhooks rekey`'

/** Returns whether an endpoint is registered, and so a secret is stored. */
export async function hasEndpoints(db: Kysely<Tables>): Promise<boolean> {
  const { rows } = await sql`select from accepted.webhook_endpoint limit 1`.execute(db)
  return rows.length > 0
}

interface StoredSecrets {
  id: string
  secrets: string[]
}

/** What {@link rekeySecrets} has done. */
export interface Rekeying {
  /** Number of endpoints whose secrets are now encrypted with the first key. */
  rekeyed: number
  /** Number of endpoints whose secrets were already encrypted with it. */
  unchanged: number
  /** The endpoints whose secrets could not be decrypted. */
  failed: { id: string; reason: string }[]
}

/**
 * Encrypts the secrets of all endpoints with the first key, also those in clear. Each endpoint has a transaction of its
 * own, so an interrupted run can be started again. Deliveries and rotations may go on meanwhile.
 */
export async function rekeySecrets(db: Kysely<Tables>, keys: KeyRing): Promise<Rekeying> {
  const done: Rekeying = { rekeyed: 0, unchanged: 0, failed: [] }
  const { rows } = await sql<{ id: string }>`select id from accepted.webhook_endpoint order by id`.execute(db)
  for (const { id } of rows) {
    try {
      done[await rekeyEndpoint(db, keys, id)] += 1
    } catch (error) {
      if (!(error instanceof DecryptionError)) throw error
      done.failed.push({ id, reason: error.message })
    }
  }
  return done
}

async function rekeyEndpoint(db: Kysely<Tables>, keys: KeyRing, id: string): Promise<'rekeyed' | 'unchanged'> {
  for (;;) {
    const { rows } =
      await sql<StoredSecrets>`select id, secrets from accepted.webhook_endpoint where id = ${id}`.execute(db)
    const stored = rows[0]?.secrets ?? []
    if (stored.every((secret) => keyIdOf(secret) === keys.encryptingId)) return 'unchanged'
    const secrets = stored.map((secret) => toStoredSecret(fromStoredSecret(secret, id, keys), id, keys))
    // Matches no row if the secret has been rotated in the meantime.
    const { numAffectedRows } = await sql`
      update accepted.webhook_endpoint set secrets = ${secrets}::text[]
      where id = ${id} and secrets = ${stored}::text[]`.execute(db)
    if (numAffectedRows === 1n) return 'rekeyed'
  }
}
