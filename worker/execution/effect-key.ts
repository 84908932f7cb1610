import { hash } from 'node:crypto'

/**
 * Makes the key that `perform` passes on to outside services: a UUIDv8 (RFC 9562, section 5.8) of the operation, the
 * principal and the idempotency key. The idempotency key alone would not do: each principal has its own keys, and two
 * principals that use the same key would share one payment.
 */
export function effectKeyOf(operation: string, principal: string, idempotencyKey: string): string {
  const digest = hash('sha256', JSON.stringify([operation, principal, idempotencyKey]), 'hex')
  const variant = ((Number.parseInt(digest[16] as string, 16) & 0b11) | 0b1000).toString(16)
  const parts = [digest.slice(0, 8), digest.slice(8, 12), `8${digest.slice(13, 16)}`, variant + digest.slice(17, 20)]
  return [...parts, digest.slice(20, 32)].join('-')
}
