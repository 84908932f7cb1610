import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { isValidKey } from '../jobs/api-key.ts'

/** When a credential is revoked or expires, its streams end after at most this time and the time of one query. */
const checkIntervalMs = 1_000

interface WatchedCredential {
  keyId: string | undefined
  isAnonymous: boolean
  expiresAt: Date | undefined
  onEnd: () => void
}

export interface CredentialWatchOptions {
  /** Whether requests are authenticated by API keys: then a request without a key is anonymous. */
  usesKeys: boolean
  onError: (error: Error) => void
}

/**
 * Ends streams, WebSockets and long polls when the credential of their request is no longer valid: when its API key was
 * revoked or has expired, when another credential has expired, or when the first key exists and the request had none.
 */
export class CredentialWatch {
  readonly #database: Database
  readonly #usesKeys: boolean
  readonly #onError: (error: Error) => void
  readonly #watched = new Set<WatchedCredential>()
  #timer: NodeJS.Timeout | undefined
  #isChecking = false

  constructor(database: Database, { usesKeys, onError }: CredentialWatchOptions) {
    this.#database = database
    this.#usesKeys = usesKeys
    this.#onError = onError
  }

  /**
   * Calls `onEnd` when the credential of the request is no longer valid.
   *
   * @returns a function that stops watching
   */
  watch(request: FastifyRequest, onEnd: () => void): () => void {
    const { principal, linkedJobId, credentialExpiresAt: expiresAt } = request
    // The `authenticate` function of an app may return the id of a key of the app.
    const keyId = this.#usesKeys ? request.keyId : undefined
    // A route of the app that does not use our authentication sets no principal.
    const isOfUs = this.#usesKeys && principal !== undefined
    const isAnonymous = isOfUs && keyId === undefined && (expiresAt === undefined || linkedJobId !== undefined)
    if (keyId === undefined && expiresAt === undefined && !isAnonymous) return () => {}
    const watched = { keyId, expiresAt, isAnonymous, onEnd }
    this.#watched.add(watched)
    this.#timer ??= setInterval(() => void this.#check(), checkIntervalMs)
    return () => {
      this.#watched.delete(watched)
      if (this.#watched.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }

  async #check(): Promise<void> {
    // An expiry is known without Postgres.
    this.#end(({ expiresAt }) => expiresAt !== undefined && expiresAt.getTime() <= Date.now())
    // If Postgres does not answer, streams with a key continue until it does.
    if (this.#isChecking) return
    this.#isChecking = true
    try {
      const { invalidKeyIds, hadKeys } = await this.#readKeys()
      this.#end(
        ({ keyId, isAnonymous }) => (keyId !== undefined && invalidKeyIds.has(keyId)) || (isAnonymous && hadKeys),
      )
    } catch (error) {
      this.#onError(error as Error)
    } finally {
      this.#isChecking = false
    }
  }

  #end(isInvalid: (credential: WatchedCredential) => boolean): void {
    for (const credential of [...this.#watched]) if (isInvalid(credential)) credential.onEnd()
  }

  /** Checks all keys in one query. A key that is watched only after the query has started counts as valid. */
  async #readKeys(): Promise<{ invalidKeyIds: ReadonlySet<string>; hadKeys: boolean }> {
    const ids = new Set([...this.#watched].flatMap(({ keyId }) => keyId ?? []))
    const hasAnonymous = [...this.#watched].some(({ isAnonymous }) => isAnonymous)
    if (ids.size === 0 && !hasAnonymous) return { invalidKeyIds: ids, hadKeys: false }
    const { rows } = await sql<{ invalid: string[]; had_keys: boolean }>`
      select ${hasAnonymous}::boolean and accepted.has_had_keys() as had_keys, array(
        select id from unnest(${[...ids]}::uuid[]) as watched (id)
        where not exists (select from accepted.api_key where api_key.id = watched.id and ${isValidKey})
      ) as invalid`.execute(this.#database.kysely)
    const [row] = rows as [{ invalid: string[]; had_keys: boolean }]
    return { invalidKeyIds: new Set(row.invalid), hadKeys: row.had_keys }
  }
}
