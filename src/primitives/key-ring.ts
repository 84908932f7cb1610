import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'

const algorithm = 'aes-256-gcm'
const keyBytes = 32
/** NIST SP 800-38D recommends 96 bits. With random values, one key may encrypt 2^32 texts. */
const ivBytes = 12
const tagBytes = 16

const prefix = 'sealed'
const separator = /\./
/** The purpose of the keys that are derived for {@link KeyRing.macs} (HKDF, RFC 5869). */
const macPurpose = 'accepted mac'
const idPattern = /^[\w-]{1,32}$/

/** Thrown when a text cannot be decrypted: its key is missing, or the text or its context was changed. */
export class DecryptionError extends Error {
  override name = 'DecryptionError'
  readonly code: 'decryption-key-missing' | 'decryption-failed'

  constructor(code: DecryptionError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The keys in ENCRYPTION_KEYS. The first key encrypts, and every key decrypts what it has encrypted. */
export interface KeyRing {
  /** The id of the key that encrypts. */
  readonly encryptingId: string
  /** The ids of all keys, the one that encrypts first. */
  readonly ids: readonly string[]
  /**
   * Encrypts a text with AES-256-GCM.
   *
   * @param context what the text belongs to; {@link decrypt} must get the same value
   * @returns `sealed.<key id>.<base64url>`
   */
  encrypt(text: string, context: string): string
  /** @throws DecryptionError */
  decrypt(encrypted: string, context: string): string
  /** Returns the HMAC-SHA-256 of a text with each key, the key that encrypts first. */
  macs(text: string): Buffer[]
}

/** Returns whether a text has the form of an encrypted text. */
export const isEncrypted = (text: string): boolean => /^sealed\.[\w-]{1,32}\.[\w-]{38,}$/.test(text)

/** Returns the id of the key that has encrypted a text. */
export function keyIdOf(encrypted: string): string | undefined {
  return isEncrypted(encrypted) ? encrypted.split(separator)[1] : undefined
}

/** Says what is wrong with the value of ENCRYPTION_KEYS. Returns undefined if it is valid. */
export function problemOfKeys(list: string): string | undefined {
  const ids = new Set<string>()
  for (const entry of list.split(',')) {
    const [id = '', key = '', ...more] = entry.trim().split(':')
    if (!idPattern.test(id) || more.length > 0)
      return 'must be a list of <id>:<base64 of 32 bytes>, separated by commas'
    if (!/^[A-Za-z0-9+/]{43}=$/.test(key)) return `must have a key of 32 bytes in base64 after ${id}:`
    if (ids.has(id)) return `must have different ids; ${id} occurs twice`
    ids.add(id)
  }
  return undefined
}

/**
 * Reads the value of ENCRYPTION_KEYS.
 *
 * @throws TypeError if {@link problemOfKeys} finds a problem
 */
export function parseKeyRing(list: string): KeyRing {
  const problem = problemOfKeys(list)
  if (problem) throw new TypeError(`ENCRYPTION_KEYS ${problem}`)
  // With the bytes of a key instead of a key object, Node takes five times as long to encrypt a short text.
  const keys = new Map(
    list.split(',').map((entry) => {
      const [id, key] = entry.trim().split(':') as [string, string]
      return [id, createSecretKey(key, 'base64')]
    }),
  )
  const [encryptingId, encryptingKey] = [...keys][0] as [string, KeyObject]
  // One key must not serve two algorithms.
  const macKeys = [...keys.values()].map((key) =>
    createSecretKey(Buffer.from(hkdfSync('sha256', key, '', macPurpose, keyBytes))),
  )
  return {
    encryptingId,
    ids: [...keys.keys()],
    encrypt(text, context) {
      const iv = randomBytes(ivBytes)
      const cipher = createCipheriv(algorithm, encryptingKey, iv).setAAD(Buffer.from(context))
      const bytes = Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
      return `${prefix}.${encryptingId}.${bytes.toString('base64url')}`
    },
    decrypt(encrypted, context) {
      if (!isEncrypted(encrypted)) throw new DecryptionError('decryption-failed', 'The text is not encrypted')
      const [, id, encoded] = encrypted.split(separator) as [string, string, string]
      const key = keys.get(id)
      if (!key) throw new DecryptionError('decryption-key-missing', `ENCRYPTION_KEYS has no key ${id}`)
      const bytes = Buffer.from(encoded, 'base64url')
      const decipher = createDecipheriv(algorithm, key, bytes.subarray(0, ivBytes), { authTagLength: tagBytes })
      decipher.setAAD(Buffer.from(context)).setAuthTag(bytes.subarray(-tagBytes))
      try {
        return Buffer.concat([decipher.update(bytes.subarray(ivBytes, -tagBytes)), decipher.final()]).toString('utf8')
      } catch (cause) {
        const message = `The text was not encrypted with this key ${id}, or it was changed`
        throw new DecryptionError('decryption-failed', message, { cause })
      }
    },
    macs: (text) => macKeys.map((key) => createHmac('sha256', key).update(text).digest()),
  }
}

/** Creates an entry for ENCRYPTION_KEYS. */
export const newEncryptionKey = (id: string): string => `${id}:${randomBytes(keyBytes).toString('base64')}`
