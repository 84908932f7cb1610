import type { Claim } from './claim.ts'

/**
 * The worker no longer holds the claim: the job has timed out, was canceled, or is held by another worker. The
 * transaction that detects this is rolled back.
 */
export class LostClaim extends Error {
  override name = 'LostClaim'
}

/** @throws LostClaim when a statement on claims has changed fewer rows than there are claims */
export function assertAllHeld(affected: number, claims: readonly Claim[]): void {
  if (affected === claims.length) return
  const lost = claims.length - affected
  throw new LostClaim(`${lost} of ${claims.length} claims lost: ${claims.map(({ jobId }) => jobId)}`)
}
