/**
 * Waits for a promise, and returns its result. After a timeout, the work behind the promise continues.
 *
 * @param timeoutMs milliseconds
 * @throws the error of the promise, or the error that `timeoutError` returns when the promise takes longer
 */
export async function withTimeout<Result>(
  promise: Promise<Result>,
  timeoutMs: number,
  timeoutError: () => Error,
): Promise<Result> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(timeoutError()), timeoutMs)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Returns whether a promise resolves in time.
 *
 * @param timeoutMs milliseconds
 * @throws the error of the promise, when the promise rejects in time
 */
export async function settledWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs)
  })
  try {
    return await Promise.race([promise.then(() => true), timeout])
  } finally {
    clearTimeout(timer)
  }
}
