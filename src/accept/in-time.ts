/**
 * What something comes to within a time.
 *
 * @throws what `onTimeout` makes, when it takes longer; nobody stops it
 */
export async function inTime<Result>(
  something: Promise<Result>,
  milliseconds: number,
  onTimeout: () => Error,
): Promise<Result> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(onTimeout()), milliseconds)
  try {
    return await Promise.race([something, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
