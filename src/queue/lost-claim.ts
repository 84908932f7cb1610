/**
 * The worker no longer holds the claim: the job has timed out, was canceled, or is held by another worker. The
 * transaction that detects this is rolled back.
 */
export class LostClaim extends Error {
  override name = 'LostClaim'
}
