/** The tables of the app, for typed queries. */
export interface Tables {
  document: { id: string; body: string; words: number | null }
}
