/** Prints what `accepted dev` does next. */
export const printStep = (step: string): void => console.log(`· ${step}`)
