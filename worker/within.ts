/** Whether something ends within a time, in milliseconds. */
export async function within(something: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds)
  })
  try {
    return await Promise.race([something.then(() => true), timeout])
  } finally {
    clearTimeout(timer)
  }
}
