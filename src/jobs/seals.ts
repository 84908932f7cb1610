import type { Operation } from '../operation.ts'
import { parsePointer, replaceAt } from '../primitives/json-pointer.ts'
import { isEncrypted, type KeyRing, parseKeyRing } from '../primitives/key-ring.ts'

/** Returns whether an operation encrypts members of its payloads and results. */
export const isSealing = ({ seal }: Operation): boolean => seal.length > 0

/** What stands for a sealed member in the database. */
interface SealedMember {
  $sealed: string
}

/** The job of a payload or a result. A sealed member can be decrypted only for the same operation and principal. */
export interface SealedFor {
  operation: Operation
  principal: string
}

/** Encrypts and decrypts the members that operations seal. Leaves values of other operations as they are. */
export interface Seals {
  readonly keyRing: KeyRing | undefined
  /**
   * Encrypts the members of a payload or a result that its operation seals. Each becomes an object like
   * `{ "$sealed": "sealed.2027.…" }`. Pointers that find nothing are ignored.
   *
   * @returns the value as JSON that was parsed, if the operation seals members
   * @throws Error when the operation seals members and there are no keys
   */
  seal(what: 'payload' | 'result', job: SealedFor, value: unknown): unknown
  /**
   * Decrypts the members that {@link seal} has encrypted. A member that is not encrypted stays as it is: SQL cannot
   * encrypt.
   *
   * @throws DecryptionError
   */
  open(what: 'payload' | 'result', job: SealedFor, value: unknown): unknown
}

/**
 * Creates the seals of a process.
 *
 * @param encryptionKeys the value of ENCRYPTION_KEYS
 * @throws TypeError when the value is invalid, or when it is missing and one of the operations seals members
 */
export function createSeals(encryptionKeys: string | undefined, operations: Iterable<Operation>): Seals {
  const keyRing = encryptionKeys === undefined ? undefined : parseKeyRing(encryptionKeys)
  const sealing = keyRing ? undefined : [...operations].find(isSealing)
  if (sealing) throw new TypeError(keysMissing(sealing))
  return sealsWith(keyRing)
}

const keysMissing = ({ name }: Operation) =>
  `Operation '${name}' seals members, so it needs keys: set ENCRYPTION_KEYS to <id>:<base64 of 32 bytes>, or pass this ` +
  'value as the option encryptionKeys'

const sealsWith = (keyRing: KeyRing | undefined): Seals => ({
  keyRing,
  seal(what, job, value) {
    if (!isSealing(job.operation)) return value
    if (!keyRing) throw new Error(keysMissing(job.operation))
    // Seals what is stored: a value with a function toJSON has other members than its JSON.
    const text = JSON.stringify(value)
    if (text === undefined) return value
    const encrypt = (member: unknown, context: string): SealedMember => ({
      $sealed: keyRing.encrypt(JSON.stringify(member), context),
    })
    return replaceAll(what, job, JSON.parse(text), encrypt)
  },
  open(what, job, value) {
    if (!isSealing(job.operation)) return value
    return replaceAll(what, job, value, (member, context) => {
      if (!isSealedMember(member)) return member
      if (!keyRing) throw new Error(keysMissing(job.operation))
      return JSON.parse(keyRing.decrypt(member.$sealed, context))
    })
  },
})

/** Returns the keys for fingerprints of requests for these operations. Undefined if none of them seals members. */
export const keyRingFor = (operations: readonly Operation[], { keyRing }: Seals): KeyRing | undefined =>
  operations.some(isSealing) ? keyRing : undefined

/** For code that never handles operations that seal members. */
export const noSeals: Seals = sealsWith(undefined)

/** Replaces the members that an operation seals. */
function replaceAll(
  what: 'payload' | 'result',
  { operation, principal }: SealedFor,
  document: unknown,
  replace: (member: unknown, context: string) => unknown,
): unknown {
  // A job without a result has null.
  if (document === null) return document
  return operation.seal.reduce<unknown>(
    (replaced, pointer) =>
      replaceAt(replaced, parsePointer(pointer) as string[], (member) =>
        // A retry is a new job with the same payload, so the id of the job is no part of the context.
        replace(member, JSON.stringify([operation.name, principal, what, pointer])),
      ),
    document,
  )
}

function isSealedMember(member: unknown): member is SealedMember {
  if (typeof member !== 'object' || member === null) return false
  const { $sealed, ...more } = member as { $sealed?: unknown }
  return typeof $sealed === 'string' && isEncrypted($sealed) && Object.keys(more).length === 0
}
