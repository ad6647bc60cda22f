import torch

from tsdistill.exporting.export_inputs import Example


def test_the_batch_is_repeated_and_cut_only_where_it_is_one():
    table, x = torch.arange(5.0), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    example = Example.of((x, table, 7))
    assert (example.batch, example.can_grow) == (2, True)
    grown = example.resized(3)
    assert grown.args[0].tolist() == [[1, 2], [3, 4], [1, 2]]
    assert grown.args[1].tolist() == table.tolist()
    assert (grown.args[2], grown.batch) == (7, 3)
    assert example.resized(1).args[0].tolist() == [[1, 2]]


def test_a_list_of_images_has_no_batch():
    assert not Example.of(([torch.rand(3, 8, 8)],)).can_grow


def test_keywords_stay_keywords():
    example = Example.of({"ids": torch.ones(1, 4, dtype=torch.long), "keep": None})
    assert example.args == ()
    assert example.resized(2).kwargs["ids"].shape == (2, 4)
    assert example.resized(2).kwargs["keep"] is None


def test_drawn_values_are_like_those_of_the_example_and_follow_the_seed():
    ids, image = torch.tensor([[3, 9, 3, 4]]), torch.rand(1, 3, 16, 16)
    example = Example.of({"ids": ids, "images": [image], "flag": torch.tensor([True, True])})
    one, same, other = (example.drawn(torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert set(one.kwargs["ids"].reshape(-1).tolist()) <= {3, 4, 9}
    assert one.kwargs["flag"].all()
    drawn = one.kwargs["images"][0]
    assert drawn.shape == image.shape
    assert drawn.min() >= image.min()
    assert drawn.max() <= image.max()
    assert abs(drawn.mean() - 0.5) < 0.05
    assert torch.equal(drawn, same.kwargs["images"][0])
    assert not torch.equal(drawn, other.kwargs["images"][0])


def test_gradients_and_devices_stay_behind():
    assert not Example.of(torch.ones(1, 2, requires_grad=True)).args[0].requires_grad
