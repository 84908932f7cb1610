create table document (
  id uuid primary key,
  body text not null,
  words integer
);
