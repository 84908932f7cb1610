import { type RawBuilder, sql } from 'kysely'

/** What the audit records about the origin of a change: the principal, and the id of the API key if there is one. */
export interface Actor {
  principal: string
  keyId?: string | undefined
}

/** Builds expressions that set the principal and the API key that `accepted.audit` records. */
export const setActor = ({ principal, keyId }: Actor): RawBuilder<unknown> => sql`
  set_config('accepted.principal', ${principal}, true), set_config('accepted.key_id', ${keyId ?? ''}, true)`
