/**
 * The attempt no longer holds its claim: the job timed out, was canceled, or another worker holds it. The transaction
 * that detects this is rolled back.
 */
export class LostClaim extends Error {
  override name = 'LostClaim'
}
